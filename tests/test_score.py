"""The job `score`: the run's own figures again, and another prior's."""

import json

import numpy as np
import pytest
import torch
from test_run import call, train

import data
from assemble import aggregate, load
from inference import score


def test_a_run_scored_again_has_its_figures_and_the_aggregate_others(dataset, tmp_path):
    assert train(dataset, tmp_path / "a", "--epochs", 1) in (None, 0)
    own = json.loads((tmp_path / "a" / "results.json").read_text())["test"]
    rows = np.load(tmp_path / "a" / "scores.npz")
    assert rows["log_likelihood"].mean() == pytest.approx(own["log_likelihood"], rel=1e-12)
    assert list(rows["index"]) == list(range(25))
    for prior in ("own", "aggregate"):
        assert call("score", tmp_path / "a", "--prior", prior, "--device", "cpu") in (None, 0)
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    again, other = (results["measures"][prior]["likelihood"] for prior in ("own", "aggregate"))
    assert (
        again == {name: value for name, value in own.items() if name != "seconds"} == without_seconds(results["test"])
    )
    assert other["log_likelihood"] != own["log_likelihood"]


def without_seconds(figures):
    return {name: value for name, value in figures.items() if name != "seconds"}


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert train(dataset, folder, "--epochs", 1) in (None, 0)
    return folder


def test_other_images_and_samples(run, capsys):
    command = ["score", run, "--split", "valid", "--images", 7, "--draw-seed", 3, "--samples", 40, "--seed", 5]
    assert call(*command) in (None, 0)
    file = np.load(run / "measures" / "likelihood.npz")
    assert len(set(file["index"])) == 7 and file["index"].max() < 30
    model, guide = load(run)
    x = data.load(json.loads((run / "config.json").read_text())["dataset"]).images("valid")[file["index"]]
    expected = score(model, guide, x, 40, seed=5)
    assert list(file["log_likelihood"]) == pytest.approx(expected.log_likelihood.tolist(), rel=1e-12)
    assert expected.verdict in capsys.readouterr().out


def test_what_was_measured_is_not_measured_again(run, monkeypatch):
    command = ["score", run, "--split", "train", "--images", 5, "--samples", 30]
    assert call(*command) in (None, 0)
    before = (run / "measures" / "likelihood.json").read_text()
    monkeypatch.setattr("jobs.sections.likelihood.measure", lambda subject: 1 / 0)
    assert call(*command) in (None, 0)
    assert (run / "measures" / "likelihood.json").read_text() == before
    with pytest.raises(ZeroDivisionError):
        call(*command[:-1], 31)


def test_the_report_needs_nothing_else(run):
    assert call("score", run, "--images", 5, "--samples", 30) in (None, 0)
    page = (run / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "") and 'src="data:image/png;base64,' in page
    assert "python run.py score" in page and "--samples 30" in page
    assert "log-likelihood" in page and "samples" in page


def test_an_unknown_measure_is_named(capsys):
    assert call("score", "somewhere", "--measures", "likelihood,elbow") == 2
    assert "no measure 'elbow'" in capsys.readouterr().err


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
