"""A user's own parts: rows in a list or a file, on every command line, and never executed unasked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from vampyro.priors import FlowPrior, StandardNormal

from tests.cli.test_train import call
from vampyro.catalogue import Part, known
from vampyro.catalogue.assemble import assemble
from vampyro.catalogue.compatibility import check_likelihood
from vampyro.catalogue.parts import FAMILIES, rows, user_parts
from vampyro.catalogue.saving import load, save
from vampyro.data import DATA_SETS
from vampyro.errors import SpecError
from vampyro.nets import NormalImageHead

ROOT = Path(__file__).parents[2]
SMALL = ["--hidden", 8, "--latent", 2, "--samples", 10, "--device", "cpu", "--engine", "eager", "--epochs", 1]
FILE = '''
"""Counts how often it is executed."""

from pathlib import Path

from torch import nn

from vampyro.catalogue import Part
from vampyro.flows import PlanarFlow
from vampyro.priors import StandardNormal

with open(Path(__file__).with_name("executed"), "a") as file:
    file.write("x")


class Mine(StandardNormal):
    pass


PARTS = [
    Part("prior", "mine", lambda spec, guide, latent, shape, images: Mine(latent), "a prior of my own"),
    Part("flow", "bent", lambda spec, features, latent: PlanarFlow(features, latent, spec.n, "shared" in spec.options),
         n=2, options=("shared",)),
]
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_parts.py"
    path.write_text(FILE + f"# {tmp_path}\n")  # a file of its own: one that was executed is remembered by its content
    return path


def executed(file):
    counter = file.with_name("executed")
    return len(counter.read_text()) if counter.exists() else 0


def mine(latent=2):
    return Part("prior", "mine", lambda spec, guide, latent, shape, images: StandardNormal(latent))


def test_a_file_of_parts_works_at_the_prompt(file):
    model, guide = assemble(prior="mine", flow="bent:3:shared", hidden=(8,), latent=2, shape=(1, 4, 4), parts=file)
    assert type(model.prior).__name__ == "Mine" and guide.flow.length == 3 and guide.flow.shared
    prior = assemble(prior="bent", hidden=(8,), latent=2, shape=(1, 4, 4), parts=str(file))[0].prior
    assert isinstance(prior, FlowPrior)  # a flow is a prior too
    assert executed(file) == 1
    with pytest.raises(SpecError, match="unknown prior 'mine'"):
        assemble(prior="mine")
    assert not user_parts().families


def test_two_files_do_not_see_each_other(file):
    with known(file):
        with known([Part("prior", "other", lambda *_: None)]):
            assert "mine" not in rows("prior") and "other" in rows("prior")
        assert "mine" in rows("prior") and "other" not in rows("prior")


def test_a_likelihood_of_ones_own_is_its_row():
    row = Part("likelihood", "half", lambda spec, *sizes: NormalImageHead(*sizes), support="unit")
    with known([row]):
        check_likelihood("half", "levels", "blobs")
        with pytest.raises(SpecError, match="'half' is for images that are grey, anywhere in"):
            check_likelihood("half", "real", "blobs")
    model, _ = assemble(likelihood="half", hidden=(8,), latent=2, shape=(1, 4, 4), parts=[row])
    assert isinstance(model.decoder[-1], NormalImageHead)


def test_a_posterior_of_ones_own_says_what_goes_with_it():
    row = Part("posterior", "lattice", lambda spec, *sizes: None, support="bits")
    with (
        known([row]),
        pytest.raises(SpecError, match="'mog:10' does not go .* latents are bits: it is for real n"),
    ):
        assemble(posterior="lattice", prior="mog")


@pytest.mark.parametrize(
    "parts, message",
    [
        ([Part("prior", "vamp", lambda *_: None)], "there is a prior 'vamp' already"),
        ([Part("priro", "mine", lambda *_: None)], "'priro'; did you mean 'prior'"),
        ([Part("model", "mine", lambda *_: None)], "'model'"),
        ([Part("prior", "mine")], "prior 'mine' has no build"),
        ([mine(), mine()], "a name is there twice: mine"),
    ],
)
def test_rows_that_are_wrong_are_named(parts, message):
    with pytest.raises(SpecError, match=message):
        assemble(prior="standard", parts=parts)


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "No such file or directory"),
        ("import nothing_of_that_name", "line 1: ModuleNotFoundError"),
        ("x = 1\n\n1 / 0", "line 3: ZeroDivisionError: division by zero"),
        ("x = (", "SyntaxError"),
        ("rows = []", "has no list PARTS"),
        ("PARTS = 3", "expected a list of Part and DataSet rows, got 3"),
    ],
)
def test_files_that_are_wrong_are_named(text, message, tmp_path):
    path = tmp_path / "bad.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SpecError, match=message):
        assemble(parts=path)
    status = subprocess.run([sys.executable, ROOT / "run.py", "--parts", path], capture_output=True, text=True)
    assert status.returncode == 2 and message in status.stderr and len(status.stderr.splitlines()) == 1


def test_every_command_takes_the_file_and_none_executes_it_unasked(file, dataset, tmp_path, capsys, monkeypatch):
    run, named = tmp_path / "run", ["--parts", file]
    assert call("--dataset", dataset, *SMALL, *named, "--prior", "mine", "--flow", "bent", "--out", run) is None
    config = json.loads((run / "config.json").read_text())
    assert config["parts"] == str(file) and config["prior"] == "mine" and len(config["parts_sha256"]) == 64
    jobs = [["--resume", run, "--epochs", 2], ["score", run, "--measures", "elbo"], ["sample", run, "--count", 4]]
    before = executed(file)
    for job in jobs:
        status = call(*job)
        assert status.startswith("error: ") and f"add --parts {file}" in status and "\n" not in status
    with pytest.raises(SpecError, match="is not executed unless you name it: add parts="):
        load(run)
    assert executed(file) == before
    for job in jobs:
        assert call(*job, *named) is None
    assert type(load(run, parts=file)[0].prior).__name__ == "Mine"
    assert not user_parts().families


def test_a_changed_file_is_taken_with_a_warning(file, tmp_path):
    programs = assemble(prior="mine", hidden=(8,), latent=2, shape=(1, 4, 4), parts=file)
    save(tmp_path / "saved", *programs)
    assert type(load(tmp_path / "saved", parts=file)[0].prior).__name__ == "Mine"
    file.write_text(file.read_text() + "\n# changed\n")
    with pytest.warns(UserWarning, match="has changed since"):
        load(tmp_path / "saved", parts=file)


def test_a_sweep_trains_and_measures_parts_of_ones_own(file, dataset, tmp_path, capsys):
    words = ["--vary", "prior=standard,mine", "--measures", "elbo", "--out", tmp_path / "out"]
    assert call("sweep", "--dataset", dataset, *SMALL, "--parts", file, *words) is None
    assert "| mine | -" in capsys.readouterr().out
    assert call("sweep", "--dataset", dataset, *SMALL, "--parts", file, *words) is None
    assert "2 runs in" in (printed := capsys.readouterr().out) and "all finished" in printed


def test_a_toml_file_names_parts_too(file, dataset, tmp_path):
    (tmp_path / "c.toml").write_text(f'parts = "{file}"\nprior = "mine"\nhidden = [8]\n')
    assert call("--dataset", dataset, *SMALL[2:], "--config", tmp_path / "c.toml", "--out", tmp_path / "run") is None
    assert json.loads((tmp_path / "run" / "config.json").read_text())["prior"] == "mine"


def test_a_data_set_of_ones_own_has_a_name(dataset, tmp_path):
    path = tmp_path / "my_data.py"
    path.write_text(
        "from vampyro import data\nfrom vampyro.data import DataSet\n"
        f"PARTS = [DataSet('mine', 'of mine', lambda root: data.load({str(dataset)!r}), (100, 30, 25), 'nobody',\n"
        "                 binarize='none')]\n"
    )
    words = ["--dataset", "mine", "--parts", path, *SMALL, "--out", tmp_path / "run"]
    assert call(*words) is None and "mine" not in DATA_SETS
    assert json.loads((tmp_path / "run" / "config.json").read_text())["dataset"] == "mine"


def test_our_families_are_as_they_were(file):
    before = {family: list(forms) for family, forms in FAMILIES.items()}
    with known(file):
        assert rows("prior").keys() - FAMILIES["prior"].keys() == {"mine", "bent"}
    assert before == {family: list(forms) for family, forms in FAMILIES.items()}
    assert torch.is_tensor(assemble(hidden=(8,), latent=2, shape=(1, 2, 2))[0](batch=1))
