"""What a run chooses for itself, its engine and the library of its products: by a rule, recorded, and restored."""

import json

import pytest
import torch

from tests.cli.test_train import assert_same, call, state, train
from vampyro.distributions import gemm
from vampyro.runs import device as machine
from vampyro.runs import training_run as training
from vampyro.runs.config import Config


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(training, "draw", lambda *_: {})


@pytest.fixture
def libraries(monkeypatch):
    """The libraries that are switched to, on a processor on which the rule takes oneDNN."""
    monkeypatch.setattr(gemm, "_onednn_is_whole", lambda: True)
    monkeypatch.setattr(gemm, "_processor_maker", lambda: "AuthenticAMD")
    seen, mode = [], gemm._mode
    # A processor with bf16 instructions would round: what is switched to is recorded, and products stay as they are.
    monkeypatch.setattr(gemm, "_mode", lambda word: seen.append(word) or mode("ieee"))
    return seen


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def test_the_choice_is_recorded_restored_and_overridden(dataset, tmp_path, libraries, capsys):
    folder = tmp_path / "a"
    assert train(dataset, folder, "--epochs", 1) is None
    assert config_of(folder)["gemm"] == "onednn" and config_of(folder)["threads"] == torch.get_num_threads()
    assert call("--resume", folder, "--epochs", 2, "--gemm", "blas") is None
    assert config_of(folder)["gemm"] == "blas"
    assert call("--resume", folder, "--epochs", 3) is None
    assert config_of(folder)["gemm"] == "blas"
    assert "warning" not in capsys.readouterr().out


def test_every_job_multiplies_as_its_run_did(dataset, tmp_path, libraries):
    folder = tmp_path / "a"
    assert train(dataset, folder, "--epochs", 1, "--gemm", "onednn") is None
    jobs = [["score", folder, "--prior", "aggregate"], ["sample", folder], ["sample", folder, "--prior", "aggregate"]]
    for job in [*jobs, ["export", folder, "--images", 2, "--samples", 5]]:
        libraries.clear()
        if (status := call(*job)) is None:
            assert libraries == ["bf16"], job
        else:
            assert job[0] == "export" and "needs arviz" in status


def test_a_library_that_cannot_be_used_is_refused_and_a_recorded_one_replaced(dataset, tmp_path, libraries, capsys):
    folder = tmp_path / "a"
    assert train(dataset, folder, "--epochs", 1, "--gemm", "onednn") is None
    gemm._onednn_is_whole = lambda: False  # the fixture restores it
    assert train(dataset, tmp_path / "b", "--gemm", "onednn").startswith("error: --gemm onednn: onednn rounds")
    assert not (tmp_path / "b").exists()
    assert call("--resume", folder, "--epochs", 2) is None
    assert "with blas last digits will differ" in capsys.readouterr().out
    assert config_of(folder)["gemm"] == "blas"


def test_two_runs_of_one_command_compute_the_same_bits(dataset, tmp_path):
    for name in ("a", "b"):
        assert train(dataset, tmp_path / name, "--epochs", 2) is None
    first, second = config_of(tmp_path / "a"), config_of(tmp_path / "b")
    assert first["gemm"] == second["gemm"] and first["engine"] == second["engine"]
    assert_same(state(tmp_path / "a"), state(tmp_path / "b"))


def test_a_resume_with_other_threads_says_that_last_digits_differ(dataset, tmp_path, capsys):
    folder, before = tmp_path / "a", torch.get_num_threads()
    assert train(dataset, folder, "--epochs", 1) is None
    try:
        torch.set_num_threads(before + 1)
        assert call("--resume", folder, "--epochs", 2) is None
    finally:
        torch.set_num_threads(before)
    said = f"warning: started with {before} threads, resumed with {before + 1}; the last digits will differ"
    assert said in capsys.readouterr().out
    assert config_of(folder)["threads"] == before + 1


@pytest.mark.parametrize(("epochs", "engine"), [(49, "eager"), (50, "compiled")])
def test_the_engine_follows_from_the_number_of_steps(epochs, engine):
    config = Config(epochs=epochs)
    assert machine.find_engine(config, torch.device("cpu"), 9_950, None) == engine
    assert machine.find_engine(config, torch.device("cuda"), 9_950, None) == "graph"
