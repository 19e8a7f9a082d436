"""Files from strangers: nothing of them runs, nothing of ours leaks into a report, what is wrong is said in a line."""

import json
import os
import pickle
import re
import shutil
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import torch

from tests.cli.test_train import SMALL, call, npz
from tests.training.test_checkpoint import Hostile, same
from vampyro import data
from vampyro.data import download as cache
from vampyro.data import omniglot
from vampyro.errors import DataError
from vampyro.runs import training_run as training
from vampyro.runs.scoring import Partial
from vampyro.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

SCRIPT = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """A run of one epoch, scored, with its figures."""
    folder = tmp_path_factory.mktemp("strangers") / "run"
    assert call("--dataset", dataset, *SMALL, "--epochs", 1, "--out", folder) is None
    assert call("score", folder, "--images", 3, "--device", "cpu") is None
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def changed(path, **settings):
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


# --- pickles


def object_array(path, witness):
    array = np.empty(1, dtype=object)
    array[0] = Hostile(witness)
    np.savez(path, train=array, valid=array, test=array)


def pickled_member(path, witness):
    """An archive whose member is a bare pickle, which numpy hands out as bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for split in ("train", "valid", "test"):
            archive.writestr(f"{split}.npy", pickle.dumps(Hostile(witness)))


def bare_pickle(path, witness):
    path.write_bytes(pickle.dumps(Hostile(witness)))


@pytest.mark.parametrize("write", [object_array, pickled_member, bare_pickle])
def test_code_in_an_npz_does_not_run(write, tmp_path):
    write(tmp_path / "images.npz", tmp_path / "ran")
    with pytest.raises(DataError, match="images.npz"):
        data.load(tmp_path / "images.npz")
    assert not (tmp_path / "ran").exists()
    if write is not pickled_member:  # it would have
        with suppress(TypeError):  # of a bare pickle, which is no archive
            np.load(tmp_path / "images.npz", allow_pickle=True)["train"]
        assert (tmp_path / "ran").exists()


def test_code_in_a_matlab_file_does_not_run(tmp_path, monkeypatch):
    path = tmp_path / "omniglot" / "chardata.mat"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "ran")))
    monkeypatch.setattr(omniglot, "URLS", ())
    with pytest.raises(DataError, match="chardata.mat is not the published file"):
        data.load("omniglot", tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("write", [object_array, bare_pickle])
def test_code_in_our_own_caches_does_not_run(write, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    write(tmp_path / "name-0123abcd.npz", tmp_path / "ran")
    made = cache.remember("name", {"file": "0123abcd"}, lambda: {"x": np.arange(3)})
    assert made["x"].tolist() == [0, 1, 2]
    write(tmp_path / "partial.npz", tmp_path / "ran")
    assert Partial(tmp_path / "partial.npz", {}).load() == []
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("job", [["--resume"], ["score"]])
@pytest.mark.parametrize("plain", [True, False])
def test_code_in_a_checkpoint_does_not_run(job, plain, run, tmp_path):
    hostile = {"epoch": 1, "metrics": [], "program": Hostile(tmp_path / "ran")}
    path = run / "checkpoint.pt"
    path.write_bytes(pickle.dumps(hostile)) if plain else torch.save(hostile, path)
    status = call(*job, run)
    assert status.startswith("error: ") and str(path) in status and not (tmp_path / "ran").exists()


# --- damage that looks like nothing


def test_no_flipped_bit_in_a_checkpoint_goes_unseen(tmp_path):
    """Any bit at all: the file is refused, or holds what was written (the bit was padding's)."""
    state, path = {"epoch": 3, "weights": torch.arange(40.0), "scores": [1.5, None]}, tmp_path / "checkpoint.pt"
    save_checkpoint(path, state)
    whole, seen = path.read_bytes(), 0
    for position in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            assert same(load_checkpoint(path), state)
        except CheckpointError as error:
            assert str(path) in str(error)
            seen += 1
    assert seen > len(whole) / 20


@pytest.mark.parametrize("cut", [0, 1, 100, 1000, -1000, -100, -1])
def test_a_checkpoint_cut_off_anywhere_is_named_on_the_command_line(cut, run):
    path = run / "checkpoint.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    status = call("--resume", run)
    assert status.startswith("error: the checkpoint ") and "cannot be read" in status and "\n" not in status


WRONG = {
    "epoch": ["one", 1.5, None, -3, 7],
    "metrics": [None, [], [1], [{}], {"epoch": 1}],
    "program": [None, [], {"x": torch.zeros(1)}, "weights"],
    "update": [None, [1], {"x": {}}, {"0.prior.pseudo_logits": {"exp_avg": torch.zeros(9)}}],
    "best": [None, {}, {"epoch": "a", "score": 0.0, "weights": None, "last": 0}],
    "film": [None, {"1": "picture"}],
}


@pytest.mark.parametrize("name, value", [(name, value) for name, values in WRONG.items() for value in values])
def test_a_checkpoint_of_wrong_types_is_named(name, value, run):
    state = load_checkpoint(run / "checkpoint.pt")
    save_checkpoint(run / "checkpoint.pt", state | {name: value})
    status = call("--resume", run)
    assert status.startswith("error: ") and str(run) in status and "\n" not in status


# --- config.json


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"hidden": "many"}, "--hidden"),
        ({"hidden": [10**12]}, "--hidden"),
        ({"hidden": []}, "--hidden"),
        ({"latent": -2}, "--latent"),
        ({"latent": {"a": 1}}, "--latent"),
        ({"prior": "vamp:1:1"}, "--prior"),
        ({"prior": ["vamp"]}, "--prior"),
        ({"prior": 10**400}, "--prior"),
        ({"epochs": "3"}, "--epochs"),
        ({"epochs": True}, "--epochs"),
        ({"lr": "nan"}, "--lr"),
        ({"device": "gpu"}, "'cuda'"),
        ({"optimizer": "__import__('os')"}, "--optimizer"),
        ({"samples": 1e99}, "--samples"),
        ({"seed": 2**64}, "--seed"),
        ({"shape": [1, 10**30, 5]}, "shape"),
        ({"shape": "1,6,5"}, "shape"),
        ({"dataset": "\0.npz"}, "control characters"),
        ({"dataset": "~nobody-of-that-name/x.npz"}, "x.npz"),
        ({"dataset": ["mnist5k"]}, "--dataset"),
    ],
)
@pytest.mark.parametrize("job", [["--resume"], ["score"]])
def test_a_strange_config_ends_in_one_message(job, settings, named, run):
    changed(run / "config.json", **settings)
    status = call(*job, run)
    assert isinstance(status, str) and status.startswith("error: ") and named in status
    assert "\n" not in status


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "\udc80", '"\\ud800"', "NaN", "1" * 5000, "null"])
def test_strange_json_is_no_config(text, run):
    (run / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    for job in (["--resume"], ["score"]):
        status = call(*job, run)
        assert status.startswith("error: ") and "config.json" in status


# --- measures and the report


def measure(run, **content):
    changed(run / "measures" / "likelihood.json", **content)
    assert call("score", run, "--images", 3, "--device", "cpu") is None
    return (run / "report.html").read_text()


def test_a_report_escapes_whatever_files_say(run):
    page = measure(
        run,
        figures={SCRIPT: SCRIPT, "nested": {SCRIPT: 1}},
        notes=[SCRIPT],
        tables=[[SCRIPT, [SCRIPT], [[SCRIPT]]]],
        pictures=[],
    )
    assert "<script" not in page and page.count("&lt;script&gt;") >= 6


def test_a_report_escapes_its_settings_and_command(dataset, tmp_path, monkeypatch):
    name = tmp_path / "<script>alert(1)<" / "script>.npz"
    name.parent.mkdir(parents=True)
    name.write_bytes(dataset.read_bytes())
    monkeypatch.setattr(training, "draw", lambda *_: {})
    run = tmp_path / "<img src=x onerror=alert(1)>"
    assert call("--dataset", name, *SMALL, "--epochs", 1, "--out", run) is None
    assert call("score", run, "--images", 3, "--device", "cpu") is None
    page = (run / "report.html").read_text()
    assert "<script" not in page and "<img src=x" not in page and "&lt;script&gt;" in page


def test_a_report_shows_no_file_but_pictures_of_its_own_folder(run, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG secret")
    (run / "measures" / "text.png").write_text("secret")
    os.symlink(secret.parent, run / "measures" / "link")
    page = measure(run, pictures=[str(secret), "../../secret.png", "link/secret.png", "text.png", ".", "", 7, None])
    section = page[page.index('id="likelihood"') : page.index("the run's own pictures")]
    assert "data:image" not in section and "c2VjcmV0" not in page


@pytest.mark.parametrize(
    "content",
    [
        "[]", "{}", "7", "[" * 100_000, '{"settings": 1, "figures": 2}',
        '{"settings": {}, "figures": {}, "notes": [], "tables": [], "pictures": [], "seconds": 1.0}',
        '{"settings": {"checkpoint": 1}, "figures": [], "notes": "", "tables": [1], "pictures": 3, "seconds": "x"}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", ["measures/likelihood.json", "measures/elbo.json", "results.json"])
def test_what_is_no_measure_is_measured_anew(file, content, run):
    (run / file).write_text(content)
    assert call("score", run, "--images", 3, "--device", "cpu") is None
    results = json.loads((run / "results.json").read_text())
    assert set(results["measures"]["own"]) == {"likelihood"}


def test_names_of_any_alphabet_and_none_are_kept(dataset, tmp_path, monkeypatch):
    """File names are bytes: what is no UTF-8 trains, and is resumed and scored, too."""
    monkeypatch.setattr(training, "draw", lambda *_: {})
    name = tmp_path / os.fsdecode(b"d\xff\xc3\xa4.npz")
    name.write_bytes(dataset.read_bytes())
    for command in (
        ["--dataset", name, *SMALL, "--epochs", 1, "--out", tmp_path / os.fsdecode(b"r\xfe")],
        ["--resume", tmp_path / os.fsdecode(b"r\xfe"), "--epochs", 2],
        ["score", tmp_path / os.fsdecode(b"r\xfe"), "--images", 3, "--device", "cpu"],
    ):
        assert call(*command) is None


def test_hostile_sizes_in_an_npz_are_refused(tmp_path):
    """A header that promises more than there is costs no memory."""
    path = npz(tmp_path / "images.npz")
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 4, 4), }"
    with zipfile.ZipFile(path, "w") as archive:
        for split in ("train", "valid", "test"):
            archive.writestr(f"{split}.npy", header.ljust(127) + b"\n")
    with pytest.raises(DataError, match=re.escape(str(path))):
        data.load(path)
