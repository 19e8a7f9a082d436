"""Remarks on a run: said of runs that diverged or left their latents unused, and of no healthy run."""

import json
from unittest.mock import Mock

import numpy as np
import pytest

from tests.cli.test_train import call
from vampyro.runs import training_run as training
from vampyro.runs.remarks import remarks
from vampyro.sweeps import runner as many
from vampyro.sweeps import sweep as campaign
from vampyro.sweeps.grid import Cell

SMALL = "--hidden 30 --latent 3 --batch-size 20 --samples 5 --device cpu --engine eager".split()


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """Bright bars at one of six places, a little noisy: what a latent is used for after a few epochs."""
    rng = np.random.default_rng(0)

    def images(count):
        x = rng.integers(25, size=(count, 6, 20), dtype=np.uint8)
        x[np.arange(count), rng.integers(6, size=count)] += 225
        return x

    path = tmp_path_factory.mktemp("data") / "bars.npz"
    np.savez(path, train=images(400), valid=images(60), test=images(40))
    return path


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(training, "draw", lambda *_: {})


def said_of(dataset, out, *words):
    assert call("--dataset", dataset, *SMALL, "--out", out, *words) is None
    return json.loads((out / "results.json").read_text())["remarks"]


HEALTHY = [
    "--likelihood bernoulli",
    "--likelihood normal:learned",
    "--likelihood logistic",
    "--likelihood continuous-bernoulli",
    "--model two-level",
    "--posterior delta --beta 0 --lr 0.01",
    "--posterior bernoulli --latent 8 --objective elbo:score",
    "--posterior vq:8 --latent 8 --prior autoregressive",
    "--objective iwae:5",
    "--objective intro --lr 1e-3",
    "--warmup 1000 --beta 50",
    "--beta 0.001",
]


@pytest.mark.parametrize("words", HEALTHY)
def test_healthy_runs_get_no_remark(words, bars, tmp_path, capsys):
    rate = [] if "--lr" in words else ["--lr", 5e-3]
    assert said_of(bars, tmp_path / "a", "--epochs", 10, *rate, *words.split()) == []
    assert "remark" not in capsys.readouterr().out


LIKELIHOODS = ["bernoulli", "normal", "logistic", "continuous-bernoulli"]  # normal:learned ends in no finite number


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_learning_rate_that_diverges_is_said(likelihood, bars, tmp_path, capsys):
    words = ["--epochs", 2, "--lr", 100, "--cooldown", 0, "--likelihood", likelihood]
    said = said_of(bars, tmp_path / "a", *words)
    assert said[0].startswith("Training diverged: ") and "lower --lr" in said[0]
    assert f"remark: {said[0]}\n" in capsys.readouterr().out


def test_unused_latents_are_said_by_the_run_and_by_its_sweep(bars, tmp_path, capsys, monkeypatch):
    said = said_of(bars, tmp_path / "a", "--epochs", 10, "--beta", 1000)
    assert [line.partition(":")[0] for line in said] == ["The latents are unused"]
    run = many.Run(Cell({}, {}, {}), 0, tmp_path / "a")
    monkeypatch.setattr(campaign, "run_all", lambda runs, tell, *_: tell(many.Outcome(run, 1.0)))
    capsys.readouterr()
    assert campaign.run([run], []) is None
    assert f"remark: {said[0]}\n" in capsys.readouterr().out


def lines(elbos, losses):
    names = ("epoch", "elbo", "reconstruction", "kl", "loss")
    return [dict(zip(names, (n, e, e + 5.0, 5.0, loss))) for n, (e, loss) in enumerate(zip(elbos, losses), 1)]


START = {"elbo": -543.0, "reconstruction": -540.0, "kl": 3.0}


def test_a_loss_that_explodes_after_the_best_epoch_is_said_and_overfitting_is_not():
    exploded = remarks(lines([-200, -150, -9e7], [250, 170, 8e7]), 2, START)
    assert len(exploded) == 1 and "diverged after epoch 2" in exploded[0] and "-9e+07" in exploded[0]
    assert remarks(lines([-200, -150, -9e7], [250, 170, 90]), 2, START) == []  # on validation images only
    assert remarks(lines([-200, -9e7, -150], [250, 8e7, 170]), 3, START) == []  # and back again


def test_an_epoch_is_judged_by_the_weight_that_it_was_trained_with():
    free = lines([-100 - 2000], [100])[0] | {"reconstruction": -100.0, "kl": 2000.0}
    assert remarks([free], 1, START, beta=1.0, warmup=1000) == []
    assert "diverged" in remarks([free], 1, START, beta=1.0)[0]


def test_looking_at_the_untrained_model_changes_no_result(bars, tmp_path, monkeypatch):
    results = []
    for validation in (training.validation, Mock(side_effect=[START, START])):  # before training and after its epoch
        monkeypatch.setattr(training, "validation", validation)
        said_of(bars, tmp_path / str(len(results)), "--epochs", 1)
        results.append(json.loads((tmp_path / str(len(results)) / "results.json").read_text())["test"] | {"seconds": 0})
    assert results[0] == results[1]
