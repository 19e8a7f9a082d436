"""The job `score`: the run's own figures again, and another prior's."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.cli.test_train import call, train
from vampyro import data, nets
from vampyro.catalogue.assemble import ex_post
from vampyro.catalogue.saving import load
from vampyro.distributions import DiagonalNormal
from vampyro.likelihood import score
from vampyro.reports.sections import SECTIONS, outliers
from vampyro.reports.subject import Subject
from vampyro.runs import scoring
from vampyro.training.checkpoint import digest, load_checkpoint, save_checkpoint


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
    assert without_seconds(again) == without_seconds(own) == without_seconds(results["test"])
    assert other["log_likelihood"] != own["log_likelihood"]


def without_seconds(figures):
    return {name: value for name, value in figures.items() if name not in ("seconds", "settings")}


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
    monkeypatch.setattr("vampyro.reports.sections.likelihood.measure", lambda subject: 1 / 0)
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


def test_what_one_measure_cannot_do_costs_no_other(run, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("decompose expects at least two images")

    monkeypatch.setattr("vampyro.reports.sections.elbo.decompose", fail)
    assert "not measured: elbo" in call("score", run, "--images", 1, "--samples", 30, "--measures", "likelihood,elbo")
    assert "at least two images" in capsys.readouterr().out
    measures = json.loads((run / "results.json").read_text())["measures"]["own"]
    assert measures["likelihood"]["images"] == 1 and (run / "report.html").exists()


def test_a_single_image_has_an_elbo_and_no_active_units(run, capsys):
    assert call("score", run, "--images", 1, "--draw-seed", 2, "--samples", 30, "--measures", "likelihood,elbo") is None
    assert "Active units are not known of a single image." in capsys.readouterr().out
    figures = json.loads((run / "measures" / "elbo.json").read_text())["figures"]
    assert figures["active_units"] == {}
    assert figures["elbo"]["mean"] == pytest.approx(figures["reconstruction"]["mean"] - figures["kl"]["z"]["mean"])


@pytest.mark.parametrize("notes", [[3], [None], ["text", ["list"]]])
def test_a_measure_whose_notes_are_not_text_is_made_again(notes, run):
    command = ["score", run, "--images", 5, "--samples", 30, "--split", "train"]
    assert call(*command) is None
    path = run / "measures" / "likelihood.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"notes": notes}))
    assert call(*command) is None
    assert json.loads(path.read_text())["notes"] == content["notes"]


def test_measures_of_an_older_checkpoint_go(run):
    assert call("score", run, "--images", 5, "--samples", 30, "--split", "valid") in (None, 0)
    assert "valid log-likelihood" in (run / "report.html").read_text()
    model, guide = load(run)
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    torch.save(state | {"film": {}}, run / "checkpoint.pt")  # another file
    assert call("score", run, "--images", 5, "--measures", "prior") in (None, 0)
    assert set(json.loads((run / "results.json").read_text())["measures"]["own"]) == {"prior"}
    assert "valid log-likelihood" not in (run / "report.html").read_text()


def test_a_checkpoint_replaced_meanwhile_lends_its_name_to_no_figure(dataset, tmp_path, monkeypatch):
    assert train(dataset, tmp_path / "a", "--epochs", 1) in (None, 0)
    path = tmp_path / "a" / "checkpoint.pt"
    loaded, fitted = digest(path.read_bytes()), scoring.ex_post

    def replaced(*args):
        """As a run that trains on does, while the other prior is fitted."""
        state = load_checkpoint(path)
        state["best"]["weights"] = {name: weight + 1 for name, weight in state["best"]["weights"].items()}
        save_checkpoint(path, state)
        return fitted(*args)

    def measured():
        command = ["score", tmp_path / "a", "--prior", "gmm:2", "--images", 5, "--samples", 10, "--device", "cpu"]
        assert call(*command) is None
        return json.loads((tmp_path / "a" / "measures-gmm-2" / "likelihood.json").read_text())

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "ex_post", replaced)
        before = measured()
    assert before["settings"]["checkpoint"] == loaded != digest(path.read_bytes())
    assert measured()["figures"]["log_likelihood"] != before["figures"]["log_likelihood"]


def test_a_finished_run_that_is_resumed_keeps_what_was_measured_of_its_weights(dataset, tmp_path):
    def measures(*argv):
        assert call(*argv) is None
        return json.loads((tmp_path / "a" / "results.json").read_text()).get("measures")

    assert train(dataset, tmp_path / "a", "--epochs", 1) is None
    score = ["score", tmp_path / "a", "--images", 5, "--samples", 10, "--device", "cpu"]
    measures(*score)
    measured = measures(*score, "--prior", "gmm:2")
    assert set(measured) == {"own", "gmm:2"} and measured["own"]["likelihood"]["images"] == 5
    assert measures("--resume", tmp_path / "a") == measured
    assert measures("--resume", tmp_path / "a", "--epochs", 2) is None  # other weights
    assert set(measures(*score)) == {"own"}


def test_nan_weights_end_in_an_error_and_lose_no_training(dataset, tmp_path, capsys):
    out = tmp_path / "a"
    assert train(dataset, out, "--epochs", 1) is None
    state = load_checkpoint(out / "checkpoint.pt")
    for weights in (state["best"]["weights"], state["program"]):
        weights["0.decoder.1.linear.weight"][3] = 3e38  # finite, and its products are not
    save_checkpoint(out / "checkpoint.pt", state)
    expected = r"the importance weights of \d+ images are NaN or infinite \(images number [\d, …]+\), because log p"
    assert call("score", out, "--device", "cpu") == "error: not measured: likelihood"
    assert re.search(f"not measured: {expected}", capsys.readouterr().out)
    (out / "results.json").unlink()
    error = call("--resume", out, "--device", "cpu")
    assert re.match(f"error: scoring failed: {expected}", error) and "contains epoch 1" in error
    assert not (out / "results.json").exists()


def by_class(name, count):
    """A set whose file is sorted by class, as some are: image i has grey level i, and is of class i // 20."""
    x = torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 6, 5).clone()
    splits = ("train", "valid", "test")
    return data.ImageSet(name, x, x, x, {split: torch.arange(count) // 20 for split in splits})


@pytest.mark.parametrize("count", [None, 60])
def test_a_few_images_are_drawn_with_their_labels_and_numbers(count):
    settings = {"split": "test", "count": count, "draw_seed": 3}
    subject = Subject(None, None, by_class("sorted", 200), {}, settings, None, None)
    few, more = subject.few(10), subject.few(100)
    assert len(few.x) == 10 and len(more.x) == (count or 100) and len(subject.x) == (count or 200)
    assert (255 * few.x[:, 0, 0, 0]).round().long().tolist() == few.index.tolist() == more.index[:10].tolist()
    assert few.labels.tolist() == [i // 20 for i in few.index] and len(set(few.labels.tolist())) > 3
    assert set(more.index) <= set(subject.index)


def test_images_of_the_other_set_are_drawn_too(monkeypatch):
    seen = []

    def scored(model, guide, x, *args, **kwargs):
        seen.append((255 * x[:, 0, 0, 0]).round())
        return SimpleNamespace(log_likelihood=x.mean((1, 2, 3)))

    monkeypatch.setattr(outliers, "score", scored)
    monkeypatch.setattr(outliers, "reconstruction", lambda model, guide, x: SimpleNamespace(mean=x))
    settings = {"split": "test", "count": 30, "draw_seed": 0, "samples": 5, "seed": 0, "other": "more"}
    more = by_class("more", 256)
    subject = Subject(None, None, by_class("sorted", 200), {"seed": 0}, settings, None, None, more)
    subject.__dict__["scoring_guide"] = None
    outliers.measure(subject)
    own, noise, other = seen
    assert own.max() > 100 and other.max() > 100 and len(other) == 30


def test_an_unknown_measure_is_named(capsys):
    assert call("score", "somewhere", "--measures", "likelihood,elbow") == 2
    assert "unknown measure 'elbow'; did you mean 'elbo'?" in capsys.readouterr().err


@pytest.mark.parametrize("flag, value, measure", [("--other", "mnist5k", "outliers"), ("--temperatures", "50", "ais")])
def test_a_setting_of_a_measure_that_was_not_asked_for_is_refused(flag, value, measure, capsys):
    assert call("score", "somewhere", flag, value, "--measures", "likelihood,elbo") == 2
    assert (
        f"error: {flag} is only for the measure {measure}" in (said := capsys.readouterr().err)
        and said.count("\n") == 1
    )
    for measures in (measure, "all"):
        assert "no run in somewhere" in call("score", "somewhere", flag, value, "--measures", measures)


@pytest.mark.parametrize(
    "other, said", [("mnist5", "did you mean 'mnist5k'?"), ("mnist5k", "its images are (1, 28, 28)")]
)
def test_another_set_that_cannot_be_measured_is_refused_before_any_measure(other, said, dataset, tmp_path):
    train(dataset, tmp_path / "a", "--epochs", 1)
    assert said in call("score", tmp_path / "a", "--measures", "elbo,outliers", "--other", other)
    assert not (tmp_path / "a" / "measures").exists()


def test_the_aggregate_is_the_mean_of_all_posteriors(dataset, tmp_path):
    train(dataset, tmp_path / "a", "--epochs", 1)
    _, guide = load(tmp_path / "a")
    images = data.load(dataset).images("train")[:20]
    z = torch.randn(7, 3)
    with torch.no_grad():
        brute = torch.stack([guide.q(x).log_prob(z).exp() for x in images]).mean(0).log()
        ours = ex_post("aggregate", None, guide, images)().log_prob(z)
        torch.testing.assert_close(ours, brute, rtol=1e-4, atol=1e-4)


def test_no_run_to_score_is_said(tmp_path):
    assert "no config.json" in call("score", tmp_path)
    (tmp_path / "file").touch()
    assert call("score", tmp_path / "file") == f"error: no run in {tmp_path / 'file'}: it has no config.json"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run on mnist5k with two latents, measured in every way."""
    folder = tmp_path_factory.mktemp("digits") / "a"
    small = ["--hidden", "16", "--latent", "2", "--prior", "vamp:40", "--flow", "planar:1", "--samples", "50"]
    assert call(*small, "--epochs", 1, "--out", folder, "--device", "cpu") in (None, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))  # where the classifier is kept
        patch.setattr("vampyro.reports.sections.samples.SAMPLES", 1000)
        command = ["score", folder, "--images", 60, "--measures", "all", "--temperatures", 5, "--other", "mnist5k"]
        assert call(*command, "--device", "cpu") in (None, 0)
    return folder


def test_every_measure_has_figures_pictures_and_words(digits):
    figures = json.loads((digits / "results.json").read_text())["measures"]["own"]
    assert set(figures) == set(SECTIONS)
    page = (digits / "report.html").read_text()
    for name in SECTIONS:
        content = json.loads((digits / "measures" / f"{name}.json").read_text())
        assert content["figures"] | {"settings": content["settings"]} == figures[name] and content["notes"]
        assert all((digits / "measures" / picture).stat().st_size > 1000 for picture in content["pictures"])
        assert f'id="{name}"' in page
    pictures = {path.name for path in (digits / "measures").glob("*.png")}
    assert {"prior-plane.png", "prior-components.png", "samples-classes.png", "gaps-gaps.png"} <= pictures


def test_measures_agree_with_one_another(digits):
    figures = json.loads((digits / "results.json").read_text())["measures"]["own"]
    elbo = figures["elbo"]
    kl = sum(site["mean"] for site in elbo["kl"].values())
    assert elbo["elbo"]["mean"] == pytest.approx(elbo["reconstruction"]["mean"] - kl, rel=1e-9)
    assert elbo["mutual_information"]["mean"] <= elbo["log_images"] + 1e-6
    assert elbo["elbo"]["mean"] == pytest.approx(figures["likelihood"]["elbo"], abs=3)
    assert figures["gaps"]["amortised"]["mean"] < figures["gaps"]["optimised"]["mean"]
    assert figures["outliers"]["noise"]["auroc"] > 0.9
    assert figures["outliers"]["mnist5k"]["auroc"] == pytest.approx(0.5, abs=0.1)  # the data themselves
    shares = figures["samples"]["class_shares"]
    assert sum(shares) == pytest.approx(1) and len(shares) == 10
    assert figures["ais"]["difference"] == pytest.approx(
        figures["ais"]["annealed"]["log_likelihood"] - figures["ais"]["importance"]["log_likelihood"]
    )


def test_a_bad_guide_is_called_bad(digits, tmp_path, monkeypatch, capsys):
    """The posterior's scale × 0.3: the weights' tails say so, and so does the report."""
    forward = nets.NormalHead.forward

    def narrow(self, h):
        q = forward(self, h)
        return DiagonalNormal(q.loc, 0.3 * q.scale)

    shutil.copytree(digits, tmp_path / "bad")
    monkeypatch.setattr(nets.NormalHead, "forward", narrow)
    assert call("score", tmp_path / "bad", "--images", 30, "--samples", 1000, "--device", "cpu") in (None, 0)
    assert "do not suffice for" in capsys.readouterr().out
    assert "do not suffice for" in (tmp_path / "bad" / "report.html").read_text()
