"""Memory that runs out in every phase of every job: what was being done, which flags reduce it, and what is kept."""

import json
import shutil
from unittest.mock import Mock

import pytest
import torch

from tests.cli.test_train import call, train
from vampyro.cli import export
from vampyro.memory import CapacityError, memory_for
from vampyro.reports.sections import elbo
from vampyro.runs import run_plots, scoring
from vampyro.runs import training_run as training
from vampyro.training.engines.eager import EagerStep

SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError("Unable to allocate 7.28 TiB for an array with shape (1000000000000,) and data type float64"),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: str(error)[:30])
def test_every_way_to_say_it_is_understood(error):
    with pytest.raises(CapacityError, match="^out of memory while scoring: a smaller --samples needs less$"):
        with memory_for("scoring", "--samples"):
            raise error


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("no memory")])
def test_other_errors_pass(error):
    with pytest.raises(type(error), match=str(error)), memory_for("scoring", "--samples"):
        raise error


def short(*args, **kwargs):
    raise MemoryError


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert train(dataset, folder, "--epochs", 1, "--engine", "eager") is None
    return folder


@pytest.mark.parametrize(
    ("where", "name", "work", "flag", "begun"),
    [
        (training, "load_images", "loading the data", "--dataset", False),
        (training, "assemble_run", "building the model", "--hidden", False),
        (EagerStep, "__call__", "training", "--batch-size", True),
        (training, "validation", "validating", "--hidden", True),
        (training, "score_images", "scoring", "--samples", True),
        (training, "draw", "drawing the plots", "--hidden", True),
    ],
)
def test_a_run_says_what_it_was_doing_and_how_to_go_on(where, name, work, flag, begun, dataset, tmp_path, monkeypatch):
    folder = tmp_path / "a"
    monkeypatch.setattr(training, "draw", lambda *_: {})
    with monkeypatch.context() as patch:
        # The untrained model is validated before the run begins.
        patch.setattr(where, name, Mock(side_effect=[{}, MemoryError]) if work == "validating" else short)
        status = train(dataset, folder, "--epochs", 1, "--engine", "eager")
    assert status.startswith(f"error: out of memory while {work}: a smaller ") and flag in status
    assert folder.exists() == begun == (f"run.py --resume {folder}" in status)
    if begun:
        assert ("contains epoch 1" in status) == (work in ("scoring", "drawing the plots"))
        assert (folder / "results.json").exists() == (work == "drawing the plots")
        assert call("--resume", folder) is None
        assert json.loads((folder / "results.json").read_text())["test"]["images"] == 25


def test_a_measure_that_needs_too_much_loses_no_other(run, tmp_path, monkeypatch):
    folder = shutil.copytree(run, tmp_path / "a")
    command = ["score", folder, "--measures", "likelihood,elbo", "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr(elbo, "measure", short)
        status = call(*command)
    assert status.startswith("error: out of memory while measuring elbo: a smaller --images or --samples needs less; ")
    assert "finished measures are kept" in status and (folder / "measures" / "likelihood.json").exists()
    assert "elbo" not in json.loads((folder / "results.json").read_text()).get("measures", {}).get("own", {})
    assert call(*command) is None


def test_sample_names_its_count(run, tmp_path, monkeypatch):
    monkeypatch.setattr(run_plots, "generate", short)
    status = call("sample", run, "--count", 7, "--out", tmp_path / "a.png")
    assert status == "error: out of memory while sampling 7 images: a smaller --count needs less"


def test_export_names_its_samples(run, tmp_path, monkeypatch):
    monkeypatch.setattr("vampyro.likelihood.posterior_draws", short)
    with pytest.raises(CapacityError, match="drawing from the posterior: a smaller --samples, --proposals or --images"):
        export.export(run, 2, 5, None, "test", tmp_path / "a.nc", device="cpu")


@pytest.mark.parametrize(("name", "work"), [("load_images", "loading the data"), ("load", "loading the checkpoint")])
def test_a_finished_run_says_what_cannot_be_loaded(name, work, run, monkeypatch):
    monkeypatch.setattr(scoring, name, short)
    assert f"out of memory while {work}" in call("score", run)
