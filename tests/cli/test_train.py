"""The main job from the command line: its folder, its errors, and going on after a stop."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vampyro import cli as run
from vampyro import data
from vampyro.catalogue import saving
from vampyro.objectives import Trace_ELBO
from vampyro.programs.randomness import seeded
from vampyro.runs import config as flags
from vampyro.runs import training_run as training
from vampyro.runs.config import DEFAULTS
from vampyro.runs.folder import Folder, folder_name
from vampyro.training import elbo_parts

ROOT = Path(__file__).parents[2]
SMALL = ["--hidden", "16,12", "--latent", "3", "--batch-size", "32", "--samples", "20", "--device", "cpu"]
SMALL += ["--prior", "vamp:7", "--flow", "planar:2"]


def call(*argv):
    """(exit status, what was printed for the user as the error)."""
    try:
        status = run.main([str(word) for word in argv])
    except SystemExit as stop:
        status = stop.code
    return status


def train(dataset, out, *more):
    return call("--dataset", dataset, *SMALL, "--epochs", 4, "--out", out, *more)


def state(folder):
    """Everything that a run computed, without its times."""

    def timeless(content):
        return {key: value for key, value in content.items() if "second" not in key}

    results = json.loads((folder / "results.json").read_text())
    metrics = [timeless(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    checkpoint = torch.load(folder / "checkpoint.pt")
    checkpoint["metrics"] = [timeless(line) for line in checkpoint["metrics"]]
    return timeless(results["test"]), timeless(results["fit"]), metrics, checkpoint


def assert_same(a, b):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for left, right in zip(a, b):
            assert_same(left, right)
    else:
        assert a == b


def test_says_before_it_trains_that_the_prior_is_slow(dataset, tmp_path, capsys, monkeypatch):
    train(dataset, tmp_path / "quiet", "--epochs", 1)
    assert "slow" not in capsys.readouterr().out
    monkeypatch.setattr(training, "SLOW", 0)
    train(dataset, tmp_path / "slow", "--epochs", 1)
    assert "slow: the exact density of VampPrior(7 " in capsys.readouterr().out.split("epoch    1")[0]
    quiet, slow = (torch.load(tmp_path / name / "checkpoint.pt")["program"] for name in ("quiet", "slow"))
    assert_same(quiet, slow)  # and the question changes nothing


def test_folder(dataset, tmp_path, capsys):
    assert train(dataset, tmp_path / "a") is None
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "config.json", "metrics.jsonl", "checkpoint.pt", "results.json", "scores.npz",
        "curves.png", "samples.png", "reconstructions.png", "pseudo_inputs.png", "film.png",
    }  # fmt: skip
    assert results["test"]["images"] == 25 and results["test"]["samples"] == 20
    assert results["test"]["elbo"] < results["test"]["log_likelihood"] < 0
    assert 1 <= results["test"]["ess_median"] <= 20
    assert results["config"] == json.loads((tmp_path / "a" / "config.json").read_text())
    assert results["config"]["engine"] == "eager" and results["config"]["prior"] == "vamp:7"
    assert results["data"]["name"] == str(dataset) and len(results["data"]["sha256"]) == 1
    assert len((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()) == 4
    assert f"{results['test']['log_likelihood']:.2f}" in printed and printed.count("epoch ") >= 4
    for picture in (tmp_path / "a").glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_run_loads_as_model_and_guide_at_its_best(dataset, tmp_path):
    assert train(dataset, tmp_path / "a", "--prior", "vamp:7:from-data", "--lr", 0.05) is None
    model, guide = saving.load(tmp_path / "a")
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    images = data.load(str(dataset)).images("valid")
    with seeded(0, 0):  # as the run's own validation
        assert elbo_parts(model, guide, images)["elbo"] == results["fit"]["best_validation_elbo"]


def test_the_best_epoch_is_that_of_the_objective_that_was_trained(dataset, tmp_path):
    """With a small weight the codes cost more and more: the ELBO falls while the objective rises."""
    flags = ["--beta", 0.01, "--lr", 0.02, "--epochs", 12, "--prior", "standard", "--flow", "none"]
    assert train(dataset, tmp_path / "a", *flags) is None
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    by_elbo = max(lines, key=lambda line: line["elbo"])
    by_objective = max(lines, key=lambda line: line["elbo"] + 0.99 * line["kl"])
    assert by_objective["epoch"] != by_elbo["epoch"]
    fit = json.loads((tmp_path / "a" / "results.json").read_text())["fit"]
    assert (fit["best_epoch"], fit["best_validation_elbo"]) == (by_objective["epoch"], by_objective["elbo"])


@pytest.mark.parametrize("engine", ["eager", "svi"])
@pytest.mark.parametrize("stop", ["before the checkpoint", "before the metrics", "after both"])
def test_resume_is_bit_for_bit_the_uninterrupted_run(dataset, tmp_path, monkeypatch, capsys, engine, stop):
    flags = ["--engine", engine, "--warmup", 3, "--cooldown", 0.5, "--optimizer", "adam-normgrad"]
    assert train(dataset, tmp_path / "whole", *flags) is None

    save, write_text = Folder.save, Folder.write_text

    def interrupted_save(self, state, metrics):
        if state["epoch"] == 2 and stop == "before the checkpoint":
            raise KeyboardInterrupt
        save(self, state, metrics)
        if state["epoch"] == 2 and stop == "after both":
            raise KeyboardInterrupt

    def interrupted_write(self, name, text):
        if name == "metrics.jsonl" and text.count("\n") == 2 and stop == "before the metrics":
            raise KeyboardInterrupt
        write_text(self, name, text)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "save", interrupted_save)
        patch.setattr(Folder, "write_text", interrupted_write)
        assert train(dataset, tmp_path / "parts", *flags) == 130
    assert f"--resume {tmp_path / 'parts'}" in capsys.readouterr().err
    assert not (tmp_path / "parts" / "results.json").exists()
    torch.rand(7)  # what happens in between does not matter
    assert call("--resume", tmp_path / "parts") is None
    assert_same(state(tmp_path / "whole"), state(tmp_path / "parts"))


def test_resume_with_more_epochs(dataset, tmp_path):
    """At a constant rate; the cooldown's end lies where the last epoch does."""
    assert train(dataset, tmp_path / "whole", "--cooldown", 0) is None
    assert train(dataset, tmp_path / "parts", "--cooldown", 0, "--epochs", 2) is None
    assert call("--resume", tmp_path / "parts", "--epochs", 4) is None
    assert_same(state(tmp_path / "whole"), state(tmp_path / "parts"))
    assert "already" in call("--resume", tmp_path / "parts", "--epochs", 3)


def test_a_run_of_another_kind_of_device_goes_on_by_an_engine_of_this_one(dataset, tmp_path):
    assert train(dataset, tmp_path / "a") is None
    path = tmp_path / "a" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"device": "cuda", "engine": "graph", "gemm": "blas"}))
    if not torch.cuda.is_available():
        assert "write --device cpu" in call("--resume", tmp_path / "a", "--epochs", 5)
    assert call("--resume", tmp_path / "a", "--epochs", 5, "--device", "cpu") is None
    found = json.loads(path.read_text())
    assert (found["device"], found["engine"], found["epochs"]) == ("cpu", "eager", 5)


def test_resume_before_the_first_whole_epoch(dataset, tmp_path, monkeypatch):
    def interrupted(self, state, metrics):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "save", interrupted)
        assert train(dataset, tmp_path / "parts") == 130
    assert call("--resume", tmp_path / "parts") is None
    assert train(dataset, tmp_path / "whole") is None
    assert_same(state(tmp_path / "whole"), state(tmp_path / "parts"))


def test_early_stopping_ends_the_run_and_stays_ended(dataset, tmp_path, capsys):
    flags = ["--patience", 1, "--lr", 0.5, "--epochs", 50]  # a rate that soon does harm
    assert train(dataset, tmp_path / "a", *flags) is None
    first = state(tmp_path / "a")
    assert len(first[2]) < 50 and first[1]["best_epoch"] == len(first[2]) - 1
    assert "no better epoch" in capsys.readouterr().out
    assert call("--resume", tmp_path / "a") is None
    assert_same(first, state(tmp_path / "a"))


@pytest.mark.parametrize("file", ["metrics.jsonl", "results.json", "curves.png"])
@pytest.mark.parametrize("fault", ["missing", "cut"])
def test_resume_needs_nothing_but_config_and_checkpoint(dataset, tmp_path, file, fault):
    assert train(dataset, tmp_path / "a") is None
    first = state(tmp_path / "a")
    if fault == "missing":
        (tmp_path / "a" / file).unlink()
    else:
        (tmp_path / "a" / file).write_bytes((tmp_path / "a" / file).read_bytes()[:50])
    assert call("--resume", tmp_path / "a") is None
    assert_same(first, state(tmp_path / "a"))


def test_a_run_that_lost_its_checkpoint_does_not_begin_again_over_it(dataset, tmp_path):
    assert train(dataset, tmp_path / "a", "--epochs", 1) is None
    (tmp_path / "a" / "checkpoint.pt").unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert "its checkpoint.pt is missing: put it back" in call("--resume", tmp_path / "a")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


def test_a_warm_up_that_does_not_end_is_said(dataset, tmp_path, capsys):
    assert train(dataset, tmp_path / "a", "--epochs", 1, "--warmup", 50, "--beta", 2) is None
    assert "--warmup 50 is longer than --epochs 1: the KL term's weight ends at 0.04" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "flag"),
    [(["score", "--measure"], "--measures"), (["sample", "--lable"], "--label"), (["export", "--image"], "--images")],
)
def test_every_job_knows_what_a_misspelt_flag_was_meant_to_be(words, flag, capsys):
    assert call(words[0], "runs/a", words[1], "3") == 2
    assert f"unknown flag {words[1]!r}; did you mean {flag}?" in capsys.readouterr().err


def test_resume_on_other_data_is_refused(dataset, tmp_path):
    copy = tmp_path / "copy.npz"
    copy.write_bytes(dataset.read_bytes())
    assert train(copy, tmp_path / "a", "--epochs", 1) is None
    npz(copy)
    status = call("--resume", tmp_path / "a", "--epochs", 2)
    assert "has changed" in status and "copy.npz" in status


@pytest.mark.parametrize("shape", [(2, 6, 5), (3, 5, 4), (4, 3, 4), (1, 40, 1), (1, 1, 40)])
def test_images_of_any_shape_end_in_results_and_pictures(tmp_path, shape):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "odd.npz", **{split: rng.random((8, *shape)) for split in ("train", "valid", "test")})
    how = ["--binarize", "dynamic"] if shape[0] > 1 else []
    assert train(tmp_path / "odd.npz", tmp_path / "a", "--epochs", 1, *how) is None
    assert json.loads((tmp_path / "a" / "results.json").read_text())["config"]["shape"] == list(shape)
    assert len(list((tmp_path / "a").glob("*.png"))) == 5


def test_default_folders_do_not_collide(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert call("--dataset", dataset, *SMALL, "--epochs", 1) is None
    assert sorted(path.name for path in Path("runs").iterdir()) == [
        "blobs_vae_vamp-7_planar-2_hidden16-12_latent3_epochs1_batch-size32_seed0",
        "blobs_vae_vamp-7_planar-2_hidden16-12_latent3_epochs1_batch-size32_seed0_2",
    ]


def test_a_default_folder_says_what_is_trained():
    """Every setting that changes what is trained changes the name; those that do not, and defaults, leave it alone."""
    others = {
        "dataset": "mnist", "binarize": "none", "noise": 0.1, "model": "two-level", "net": "conv", "hidden": [8],
        "activation": "relu", "latent": 2, "likelihood": "normal", "prior": "mog:2", "posterior": "delta",
        "flow": "planar:2", "condition": "label", "objective": "iwae:5", "beta": 2.0, "warmup": 3, "epochs": 4,
        "batch_size": 5, "lr": 0.1, "cooldown": 0.1, "optimizer": "adam-normgrad", "patience": 6, "seed": 7,
    }  # fmt: skip
    same = {"data_dir", "engine", "gemm", "samples", "test_images", "device", "out", "tensorboard", "parts"}
    assert others.keys() | same == DEFAULTS.keys()
    names = {name: folder_name(DEFAULTS | {name: value}) for name, value in others.items()}
    assert len({*names.values(), folder_name(DEFAULTS)}) == 1 + len(others)
    assert folder_name(DEFAULTS) == "mnist5k_vae_standard_none_seed0"  # as the documentation has it
    assert folder_name(DEFAULTS | {"out": "x", "samples": 5, "engine": "eager", "gemm": "onednn"}) == folder_name(
        DEFAULTS
    )
    config, *_ = flags.read(["--posterior", "bernoulli"])  # its objective is that posterior's default
    assert folder_name(config) == "mnist5k_vae_standard_none_bernoulli_seed0"
    assert len(os.fsencode(folder_name(DEFAULTS | {"dataset": 250 * "ä" + ".npz", "hidden": [9] * 99}))) <= 255


def test_diverging_run_keeps_its_last_good_epoch(dataset, tmp_path, monkeypatch):

    calls = []
    original = Trace_ELBO.differentiable_loss

    def breaks_in_the_third_epoch(*args):
        calls.append(1)
        return original(*args) * (float("nan") if len(calls) > 9 else 1.0)  # 4 steps an epoch

    monkeypatch.setattr(Trace_ELBO, "differentiable_loss", breaks_in_the_third_epoch)
    error = train(dataset, tmp_path / "a")
    assert "the loss is not finite (nan), in step 1 of epoch 3" in error and "contains epoch 2" in error
    assert torch.load(tmp_path / "a" / "checkpoint.pt")["epoch"] == 2


def npz(path, **arrays):
    good = np.zeros((3, 4, 4))
    np.savez(path, **{"train": good, "valid": good, "test": good} | arrays)
    return path


BAD = {
    "unknown prior": (["--prior", "vmap"], ["unknown prior 'vmap'", "did you mean 'vamp'?"]),
    "unknown flow": (["--flow", "plannar"], ["unknown flow 'plannar'", "did you mean 'planar'?"]),
    "K < 1": (["--prior", "vamp:0"], ["'vamp:0'", "at least 1"]),
    "N < 1": (["--flow", "planar:-3"], ["'planar:-3'", "at least 1"]),
    "no number": (["--flow", "planar:many"], ["'planar:many'", "whole number"]),
    "unknown option": (["--flow", "planar:3:shred"], ["'shred'", "'shared'"]),
    "number to none": (["--prior", "standard:3"], ["'standard:3'"]),
    "clashing options": (["--prior", "vamp:5:from-data:fixed"], ["exclude each other"]),
    "unknown flag": (["--prio", "vamp"], ["'--prio'", "did you mean --prior"]),
    "unknown job": (["trian"], ["unknown job 'trian'", "did you mean 'train'?"]),
    "unknown device": (["--device", "gpu"], ["unknown device 'gpu'", "did you mean 'cuda'?", "auto, cpu, cuda"]),
    "unknown optimizer": (["--optimizer", "adma"], ["unknown optimizer 'adma'", "did you mean 'adam'?"]),
    "another optimizer": (["--optimizer", "sgd"], ["unknown optimizer 'sgd' (choose from adam, adam-normgrad)"]),
    "unknown engine": (["--engine", "compield"], ["unknown engine 'compield'", "did you mean 'compiled'?"]),
    "prior of scoring": (["--prior", "aggregate"], ["for scoring only", "run.py score DIR --prior aggregate"]),
    "too wide": (["--hidden", "900000000,900000000"], ["hidden (900000000, 900000000)", "GB of memory"]),
    "beyond float32": (["--beta", "1e300"], ["--beta", "at most 1e+38"]),
    "a number of 400 digits": (["--epochs", "1" + "0" * 400], ["--epochs", "at most 1000000000"]),
    "epochs 0": (["--epochs", "0"], ["--epochs", "at least 1", "'0'"]),
    "lr 0": (["--lr", "0"], ["--lr", "above 0"]),
    "lr nan": (["--lr", "nan"], ["--lr", "'nan'"]),
    "widths": (["--hidden", "300,x"], ["--hidden", "'x'"]),
    "unknown data": (["--dataset", "mnits"], ["'mnits'", "mnist"]),
    "missing file": (["--dataset", "no/such.npz"], ["no/such.npz"]),
    "too many pseudo-inputs": (["--prior", "vamp:101:from-data"], ["101", "100"]),
    "grey": (["--binarize", "none"], ["grey", "--binarize dynamic"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_flags_end_in_one_message(case, dataset, tmp_path, capsys):
    argv, fragments = BAD[case]
    status = call("--dataset", dataset, *argv) if argv[0] != "trian" else call(*argv)
    message = status if isinstance(status, str) else capsys.readouterr().err
    assert status not in (None, 0)
    assert message.startswith("error: ") and len(message.strip().splitlines()) == 1
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize(
    "argv, ending",
    [
        (["sample", "a-run", "--out"], ".png"),
        (["sample", "a-run", "--npz"], ".npz"),
        (["export", "a-run", "--out"], ".nc"),
        (["reproduce", "planar-lengths", "--page"], ".md"),
        (["reproduce", "planar-lengths", "--picture"], ".png"),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(argv, ending, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / f"folder{ending}").mkdir()
    for name, fragment in {
        "other.txt": f"expected a file, FILE{ending}, got '{tmp_path / 'other.txt'}'",
        f"folder{ending}": f"expected a file, FILE{ending}, got a folder",
        f"file/new{ending}": f"{tmp_path / 'file'} is not a writable folder",
        300 * "a" + ending: "File name too long",
    }.items():
        assert call(*argv, tmp_path / name) == 2
        message = capsys.readouterr().err
        assert message.startswith(f"error: argument {argv[-1]}: ") and fragment in message


@pytest.mark.parametrize(
    "arrays, fragment",
    [
        ({"train": np.zeros((0, 4, 4))}, "empty"),
        ({"train": np.full((3, 4, 4), 1.5)}, "[0, 1]"),
        ({"test": np.full((3, 4, 4), -0.1)}, "[0, 1]"),
        ({"valid": np.full((3, 4, 4), np.nan)}, "finite"),
        ({"valid": np.zeros((3, 4, 5))}, "4×5"),
    ],
    ids=["empty", "above 1", "below 0", "nan", "other shape"],
)
def test_bad_data_end_in_one_message(arrays, fragment, tmp_path):
    status = call("--dataset", npz(tmp_path / "bad.npz", **arrays), "--out", tmp_path / "out")
    assert status.startswith("error: ") and fragment in status and "\n" not in status
    assert not (tmp_path / "out").exists()


def test_files_are_json_for_any_reader(tmp_path):
    figures = {"mean": float("nan"), "convergence": {"10": float("-inf")}, "shares": [0.5, np.float64("inf")]}
    Folder(tmp_path).write("results.json", figures | {"count": 3, "name": "NaN", "known": True})
    read = json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda word: 1 / 0)
    assert read == {"mean": None, "convergence": {"10": None}, "shares": [0.5, None]} | {
        "count": 3, "name": "NaN", "known": True,
    }  # fmt: skip


def test_corrupt_file(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 and no more")
    assert "bad.npz" in call("--dataset", tmp_path / "bad.npz", "--out", tmp_path / "out")


def test_a_prior_for_scoring_only_is_not_among_those_to_train(capsys):
    assert call("--prior", "vmap") == 2
    assert "vamp-base" in (message := capsys.readouterr().err) and "aggregate" not in message


def test_a_scoring_that_is_stopped_has_a_shells_exit_status(dataset, tmp_path, monkeypatch, capsys):
    assert train(dataset, tmp_path / "a", "--epochs", 1) is None
    for number, expected in [(signal.SIGTERM, 143), (signal.SIGINT, 130)]:
        monkeypatch.setattr("vampyro.reports.measure.rescore", lambda *_, **__: signal.raise_signal(number))
        assert call("score", tmp_path / "a") == expected
        assert "run the same command again" in capsys.readouterr().err


def test_cuda_where_there_is_none(dataset, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    status = call("--dataset", dataset, "--device", "cuda", "--out", tmp_path / "out")
    assert "--device cuda" in status and "--device cpu" in status


def test_unwritable_out(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    status = call("--dataset", dataset, "--out", tmp_path / "file" / "run")
    assert status.startswith("error: cannot write to --out") and "--out" in status


def test_out_that_holds_a_run_is_kept(dataset, tmp_path):
    assert train(dataset, tmp_path / "a") is None
    before = (tmp_path / "a" / "config.json").read_bytes()
    status = train(dataset, tmp_path / "a", "--latent", 2)
    assert f"--resume {tmp_path / 'a'}" in status
    assert (tmp_path / "a" / "config.json").read_bytes() == before


def test_bad_resume(dataset, tmp_path, capsys):
    assert "config.json" in call("--resume", tmp_path / "nowhere")
    assert train(dataset, tmp_path / "a", "--epochs", 1) is None
    assert call("--resume", tmp_path / "a", "--latent", 5) == 2
    assert "--latent" in capsys.readouterr().err
    checkpoint = (tmp_path / "a" / "checkpoint.pt").read_bytes()

    config = json.loads((tmp_path / "a" / "config.json").read_text())
    (tmp_path / "a" / "config.json").write_text(json.dumps(config | {"latent": 4}))
    status = call("--resume", tmp_path / "a")
    assert "checkpoint.pt is not a valid checkpoint of this run: 0.decoder" in status and "expected (24, 4)" in status
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))

    (tmp_path / "a" / "checkpoint.pt").write_bytes(checkpoint[: len(checkpoint) // 2])
    assert "cannot be read" in call("--resume", tmp_path / "a")


@pytest.mark.parametrize("text", ["{}", "[]", "not json", '{"dataset": "mnist5k"}'])
def test_resume_of_a_config_that_is_none(dataset, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    status = call("--resume", tmp_path)
    assert status.startswith("error: ") and "config.json" in status


@pytest.mark.parametrize("content", [torch.zeros(3), {}, {"epoch": 1, "metrics": []}, [1, 2]])
def test_resume_of_a_checkpoint_that_is_none(dataset, tmp_path, content):
    assert train(dataset, tmp_path / "a", "--epochs", 1) is None
    torch.save(content, tmp_path / "a" / "checkpoint.pt")
    status = call("--resume", tmp_path / "a")
    assert status.startswith("error: ") and "checkpoint.pt" in status


def test_epoch_whose_last_step_breaks_the_weights_is_not_kept(dataset, tmp_path):
    """Its training loss is finite: only the validation after it shows."""
    status = train(dataset, tmp_path / "a", "--epochs", 1, "--batch-size", 100, "--lr", 1e38)
    assert (
        "of epoch 1" in status and "no complete epoch yet" in status and not (tmp_path / "a" / "checkpoint.pt").exists()
    )


def test_a_process_ends_without_traceback(tmp_path):
    ended = subprocess.run(
        [sys.executable, ROOT / "run.py", "--dataset", "no/such.npz"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.startswith("error: ") and not (tmp_path / "runs").exists()
