"""The job `score`: the run's own figures again, and another prior's."""

import json

import numpy as np
import pytest
import torch
from test_run import call, train

import data
from assemble import aggregate, load


def test_a_run_scored_again_has_its_figures_and_the_aggregate_others(dataset, tmp_path):
    assert train(dataset, tmp_path / "a", "--epochs", 1) in (None, 0)
    own = json.loads((tmp_path / "a" / "results.json").read_text())["test"]
    rows = np.load(tmp_path / "a" / "scores.npz")
    assert rows["log_likelihood"].mean() == pytest.approx(own["log_likelihood"], rel=1e-12)
    assert list(rows["index"]) == list(range(25))
    for prior in ("own", "aggregate"):
        assert call("score", tmp_path / "a", "--prior", prior, "--device", "cpu") in (None, 0)
    again, other = (json.loads((tmp_path / "a" / f"score-{p}.json").read_text())["test"] for p in ("own", "aggregate"))
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in own.items() if k != "seconds"}
    assert other["log_likelihood"] != own["log_likelihood"]


def test_the_aggregate_is_the_mean_of_all_posteriors(dataset, tmp_path):
    train(dataset, tmp_path / "a", "--epochs", 1)
    _, guide = load(tmp_path / "a")
    images = data.load(dataset).images("train")[:20]
    z = torch.randn(7, 3)
    with torch.no_grad():
        brute = torch.stack([guide.q(x).log_prob(z).exp() for x in images]).mean(0).log()
        torch.testing.assert_close(aggregate(guide, images)().log_prob(z), brute, rtol=1e-4, atol=1e-4)


def test_no_run_to_score_is_said(tmp_path):
    assert "no config.json" in call("score", tmp_path)
