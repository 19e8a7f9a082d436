"""The conditional VAE: what a label does to p(x | z, y) and q(z | x, y), and where it travels."""

import json

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from tests.cli.test_train import call
from vampyro import data, nets
from vampyro.catalogue.assemble import assemble
from vampyro.catalogue.saving import load
from vampyro.data import ImageSet
from vampyro.distributions.labelled import join, one_hot, split
from vampyro.errors import DataError, SpecError
from vampyro.likelihood import bdmc, score
from vampyro.objectives import Trace_ELBO
from vampyro.programs.compile import StagedLoss
from vampyro.programs.randomness import seeded
from vampyro.training import make_update

SHAPE, CLASSES = (1, 2, 2), 3
EVERY_IMAGE = torch.cartesian_prod(*[torch.arange(2.0)] * 4).view(16, *SHAPE)


def small(trained, **parts):
    images = join(EVERY_IMAGE, one_hot(torch.arange(16) % CLASSES, CLASSES))
    parts = {"hidden": (6, 5), "latent": 2, "shape": SHAPE, "classes": CLASSES, "images": images} | parts
    model, guide = assemble(condition="label", **parts)
    trained(nn.ModuleList([model, guide]), norm=1.0)
    with torch.no_grad():
        for head in (part for part in guide.modules() if isinstance(part, nets.NormalHead)):
            head.linear.weight.mul_(0.3)  # posteriors broader than the true ones, so that weights have no heavy tails
            head.linear.bias.copy_(0.8 * (torch.arange(len(head.linear.bias)) >= len(head.linear.bias) // 2))
    return model, guide


def log_prior(model, guide, z):
    """log p(z) of points in the plane, by hand; of two levels z = (z1, z2)."""
    if hasattr(model, "middle"):
        loc, log_variance = model.middle[1].linear(model.middle[0](z[:, 1:])).chunk(2, -1)
        scale = (0.5 * log_variance.clamp(-6, 2)).exp()
        return (dist.Normal(loc, scale).log_prob(z[:, :1]) + dist.Normal(0.0, 1.0).log_prob(z[:, 1:])).squeeze(-1)
    if hasattr(model.prior, "pseudo_logits"):
        q = guide.q(model.prior.pseudo_logits.sigmoid())
        return dist.Normal(q.loc, q.scale).log_prob(z.unsqueeze(1)).sum(-1).logsumexp(-1) - np.log(len(q.loc))
    return dist.Normal(0.0, 1.0).log_prob(z).sum(-1)


def integral(model, guide, plane):
    """log p(x | y) of every image and label, (16, CLASSES), a sum over a grid in the plane of z."""
    z, area = plane(-9, 9, 180)
    z = z.float()
    body, head = model.decoder.images
    result = []
    scale = 1.0 if hasattr(model, "middle") else 2**0.5  # the root of the size of what it stands beside
    for y in scale * torch.eye(CLASSES).unsqueeze(1).expand(-1, len(z), -1):
        if hasattr(model, "middle"):
            h = body((torch.cat([z[:, :1], y], 1), z[:, 1:]))
        else:
            h = body(torch.cat([z, y], 1))
        logits = head.linear(h)[0].flatten(1).double()
        x = EVERY_IMAGE.flatten(1).double()
        explained = logsigmoid(logits) @ x.T + logsigmoid(-logits) @ (1 - x).T
        result.append((log_prior(model, guide, z).double().unsqueeze(1) + explained).logsumexp(0) + area.log())
    return torch.stack(result, 1)


CASES = [{"prior": "standard"}, {"prior": "vamp:3"}, {"model": "two-level", "latent": 1}]


@pytest.mark.parametrize("parts", CASES, ids=str)
@torch.no_grad()
def test_the_score_is_log_p_of_x_given_y(parts, trained, plane):
    model, guide = small(trained, **parts)
    expected = integral(model, guide, plane)
    torch.testing.assert_close(expected.exp().sum(0), torch.ones(CLASSES).double(), rtol=1e-4, atol=0)
    assert (expected[:, 0] - expected[:, 1]).abs().max() > 0.1  # the label matters
    for y in range(CLASSES):
        xy = join(EVERY_IMAGE, one_hot(torch.full((16,), y), CLASSES))
        result = score(model, guide, xy, samples=5000, compiled=False)
        error = (result.log_likelihood - expected[:, y]).abs()
        assert (error < 5 * result.monte_carlo_error + 1e-3).all() and result.monte_carlo_error.max() < 0.2


@torch.no_grad()
def test_draws_of_a_class_are_as_frequent_as_it_says(trained, plane):
    model, guide = small(trained)
    expected, count = integral(model, guide, plane).exp(), 20_000
    for y in range(CLASSES):
        x, labels = split(model(batch=count, y=y), SHAPE)
        assert torch.equal(labels.argmax(1), torch.full((count,), y))
        seen = (x.flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long().bincount(minlength=16) / count
        deviation = (expected[:, y] * (1 - expected[:, y]) / count).sqrt()
        assert ((seen - expected[:, y]).abs() < 5 * deviation).all()


@torch.no_grad()
def test_labels_of_draws(trained):
    model, guide = small(trained)
    asked = torch.tensor([2, 0, 1, 2])
    assert torch.equal(model(batch=4, y=asked)[:, 4:].argmax(1), asked)
    shares = model(batch=9000)[:, 4:].mean(0)
    assert shares.sum() == pytest.approx(1) and (shares - 1 / CLASSES).abs().max() < 0.025
    for y, message in [(3, "from 0 to 2"), (1.0, "from 0 to 2"), ([0, 1], r"2 labels for a batch of \(4,\)")]:
        with pytest.raises(ValueError, match=message):
            model(batch=4, y=y)
    with pytest.raises(TypeError, match="'y'"):
        assemble(shape=SHAPE, hidden=(5,), latent=2)[0](batch=4, y=1)


@pytest.mark.parametrize("parts", CASES, ids=str)
@torch.no_grad()
def test_the_posterior_is_given_the_label_too(parts, trained):
    model, guide = small(trained, **parts)
    means = [guide.q(join(EVERY_IMAGE, one_hot(torch.full((16,), y), CLASSES))).loc for y in range(CLASSES)]
    assert (means[0] - means[1]).abs().max() > 0.02


def test_pseudo_inputs_carry_labels_that_are_learned(trained):
    model, guide = small(trained, prior="vamp:4:from-data")
    x, y = split(model.prior.pseudo_inputs(), SHAPE)
    assert x.shape == (4, *SHAPE) and y.shape == (4, CLASSES) and 0 < y.min() and y.max() < 1
    make_update(model, guide)(join(EVERY_IMAGE, one_hot(torch.zeros(16).long(), CLASSES)))
    gradient = model.prior.pseudo_logits.grad[:, 4:]
    assert gradient.shape == (4, CLASSES) and (gradient != 0).all()


def test_classes_are_asked_for():
    with pytest.raises(SpecError, match="how many labels"):
        assemble(condition="label")
    with pytest.raises(SpecError, match="unknown condition 'lable'; did you mean 'label'"):
        assemble(condition="lable")


@pytest.mark.parametrize("net", ["mlp", "small-conv"])
def test_a_staged_loss_is_the_eager_loss(net):
    """What a compiler is handed computes the same."""
    x = join(torch.rand(6, 1, 4, 4).round(), one_hot(torch.arange(6) % CLASSES, CLASSES))
    parts = {"net": net, "hidden": (6,), "latent": 2, "shape": (1, 4, 4), "classes": CLASSES}
    program = nn.ModuleList(assemble(condition="label", prior="vamp:3", **parts))

    def loss(x):
        return Trace_ELBO().differentiable_loss(*program, x)

    staged = StagedLoss(program, loss, x, compiled=False)
    with seeded(1):
        value, gradients = staged(x.flip(0))
    with seeded(1):
        expected = loss(x.flip(0))
    torch.testing.assert_close(value, expected.detach())
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, program.parameters()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_bounds_on_what_it_draws_itself(trained):
    model, _ = small(trained)
    bounds = bdmc(model, images=20, chains=8, temperatures=20)
    assert bounds.images.shape == (20, 4 + CLASSES) and bounds.gap.mean().abs() < 0.2


def ramp(labels=True, **kwargs):
    grey = torch.arange(5 * 16, dtype=torch.uint8).mul(3).reshape(5, 1, 4, 4)
    y = {split: torch.tensor([0, 3, 1, 1, 2]) for split in ("train", "valid", "test")} if labels else {}
    return ImageSet("ramp", grey, grey, grey, labels=y, **kwargs)


@pytest.mark.parametrize("binarize", ["none", "dynamic", "threshold"])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_binarisation_and_noise_are_the_pixels_alone(binarize, noise):
    plain = ramp().with_binarisation(binarize).noisy(noise)
    images = plain.labelled()
    assert images.input_shape == (16 + 4,) and images.image_shape == (1, 4, 4) and images.values == plain.values
    indices = torch.tensor([4, 1, 1, 0])
    with seeded(1):
        expected = plain.batch(indices)
    with seeded(1):
        x, y = split(images.batch(indices), images.image_shape)
    assert torch.equal(x, expected) and torch.equal(y, one_hot(plain.labels["train"][indices], 4))
    for name in ("train", "valid", "test"):
        xy = images.images(name)
        assert torch.equal(images.pictures(xy), plain.images(name))
        assert torch.equal(xy, join(plain.images(name), one_hot(plain.labels[name], 4)))  # one layout, on both sides
        assert torch.equal(xy, images.inputs(plain.images(name), plain.labels[name]))
    assert images.without_labels().input_shape == (1, 4, 4)
    assert sorted(tuple(row) for b in images.batches(2) for row in b[:, 16:].tolist()) == sorted(
        tuple(row) for row in one_hot(plain.labels["train"], 4).tolist()
    )


def test_data_without_labels_are_refused():
    with pytest.raises(DataError, match="ramp has none for train, valid, test"):
        ramp(labels=False).labelled()
    with pytest.raises(DataError, match="has none for valid"):
        ImageSet("some", *[ramp().train] * 3, labels={s: ramp().labels[s] for s in ("train", "test")}).labelled()
    with pytest.raises(DataError, match="a label -1"):
        ImageSet("some", *[ramp().train] * 3, labels={s: y - 1 for s, y in ramp().labels.items()}).labelled()
    with pytest.raises(
        DataError, match="a label 900000000, and only .* images: number the classes from 0 without gaps"
    ):
        labels = {s: y.index_fill(0, torch.tensor(0), 900_000_000) for s, y in ramp().labels.items()}
        ImageSet("some", *[ramp().train] * 3, labels=labels).labelled()


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """Images of 1×6×6 whose class is the column that is black, so that a label says most of the image."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "stripes.npz"
    arrays = {}
    for name, count in [("train", 300), ("valid", 30), ("test", 30)]:
        y = rng.integers(0, 3, count)
        x = (rng.random((count, 6, 6)) < 0.1).astype(np.uint8)
        x[np.arange(count), :, 2 * y] = 1
        arrays |= {name: x, f"{name}_labels": y}
    np.savez(path, **arrays)
    return path


SMALL = ["--hidden", "16", "--latent", "2", "--batch-size", "20", "--samples", "50", "--device", "cpu", "--lr", "0.01"]


@pytest.fixture(scope="module")
def run(stripes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    flags = ["--condition", "label", "--prior", "vamp:6:from-data", "--epochs", 25]
    assert call("--dataset", stripes, *SMALL, *flags, "--out", folder) in (None, 0)
    return folder


def test_a_run_says_what_its_figure_is_of(run):
    results = json.loads((run / "results.json").read_text())
    assert results["test"]["quantity"] == "log p(x | y)" and results["config"]["classes"] == 3
    assert results["config"]["shape"] == [1, 6, 6]
    assert {"samples.png", "analogies.png", "pseudo_inputs.png", "film.png"} <= {p.name for p in run.iterdir()}


def test_a_run_loads_and_draws_the_class_that_it_is_asked_for(run):
    model, guide = load(run)
    images = data.load(json.loads((run / "config.json").read_text())["dataset"]).labelled()
    results = json.loads((run / "results.json").read_text())
    again = score(model, guide, images.images("test"), 50).log_likelihood.mean()
    assert again == pytest.approx(results["test"]["log_likelihood"], rel=1e-6)
    with torch.no_grad():
        for y in range(3):
            columns = images.pictures(model(batch=100, y=y)).mean((1, 2))  # over channels and rows
            assert (columns.argmax(1) == 2 * y).float().mean() > 0.9


def test_every_measure_of_a_conditional_run(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("vampyro.reports.sections.samples.SAMPLES", 1000)
    monkeypatch.setattr("vampyro.reports.sections.gaps.IMAGES", 3)
    monkeypatch.setattr("vampyro.reports.sections.ais.IMAGES", 3)
    assert call("score", run, "--measures", "all", "--images", 10, "--temperatures", 5, "--device", "cpu") in (None, 0)
    assert "log p(x | y)" in capsys.readouterr().out
    figures = json.loads((run / "results.json").read_text())["measures"]["own"]
    assert figures["likelihood"]["quantity"] == "log p(x | y)"
    assert figures["samples"]["label_accuracy"] > 0.9 and figures["samples"]["class_total_variation"] < 0.1
    assert figures["outliers"]["noise"]["auroc"] > 0.9
    assert call("score", run, "--prior", "aggregate", "--device", "cpu") in (None, 0)


def test_the_job_sample(run, tmp_path, capsys):
    files = ["--out", tmp_path / "a.png", "--npz", tmp_path / "a.npz"]
    command = ["sample", run, "--count", 12, "--device", "cpu", *files]
    assert call(*command, "--label", "2") in (None, 0)
    assert capsys.readouterr().out.split() == [str(tmp_path / "a.png"), str(tmp_path / "a.npz")]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    drawn = np.load(tmp_path / "a.npz")
    assert drawn["images"].shape == (12, 1, 6, 6) and (drawn["labels"] == 2).all()
    assert (drawn["images"].mean((1, 2)).argmax(1) == 4).all() and 0 < drawn["images"][0, 0, 0, 0] < 1
    assert call(*command, "--label", "2,0", "--draws") in (None, 0)
    drawn = np.load(tmp_path / "a.npz")
    assert drawn["labels"].tolist() == 6 * [2, 0] and set(drawn["images"].flatten()) == {0, 1}
    first = drawn["images"]
    assert call(*command, "--label", "2,0", "--draws") in (None, 0)
    assert (np.load(tmp_path / "a.npz")["images"] == first).all()
    assert call(*command, "--label", "2,0", "--draws", "--seed", 9) in (None, 0)
    assert (np.load(tmp_path / "a.npz")["images"] != first).any()
    assert call(*command) in (None, 0) and np.load(tmp_path / "a.npz")["labels"].tolist() == 4 * [0, 1, 2]
    assert "expected a label from 0 to 2" in call(*command, "--label", "3")


def test_a_run_without_labels_draws_too_but_no_class(dataset, tmp_path):
    assert call("--dataset", dataset, *SMALL, "--epochs", 1, "--out", tmp_path / "a") in (None, 0)
    assert call("sample", tmp_path / "a", "--npz", tmp_path / "a.npz", "--device", "cpu") in (None, 0)
    assert np.load(tmp_path / "a.npz").files == ["images"] and (tmp_path / "a" / "drawn.png").exists()
    assert "not trained with labels" in call("sample", tmp_path / "a", "--label", "1")
    assert "no config.json" in call("sample", tmp_path / "b")
    status = call("--dataset", dataset, *SMALL, "--condition", "label", "--out", tmp_path / "b")
    assert "has none for train, valid, test" in status and not (tmp_path / "b").exists()
