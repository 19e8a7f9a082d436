"""Measures, each against a figure that is known or counted by brute force."""

import logging
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from vampyro import data, plots
from vampyro import metrics as measures
from vampyro.data import ImageSet
from vampyro.errors import DataError
from vampyro.metrics import (
    Classifier,
    accuracy,
    auroc,
    cached_classifier,
    class_distribution,
    classifier_frechet_distance,
    entropy,
    knn_accuracy,
    nearest,
    noise_images,
    total_variation,
    train_classifier,
)
from vampyro.metrics import classifier as classifying


class Pixels(Classifier):
    """Its features are the pixels, and so are its logits."""

    def __init__(self):
        nn.Module.__init__(self)

    def features(self, x):
        return x.flatten(1)

    def forward(self, x):
        return x.flatten(1)


# --- pictures


def test_pictures_of_numbers_outside_the_unit_interval_are_clipped(caplog):
    """Samples of a Normal likelihood are such numbers; matplotlib would log a warning for each picture."""
    images = 3 * torch.randn(4, 3, 5, 5)
    pictures = [plots.image_grid(x) for x in (images, images.clamp(0, 1))]
    first, second = (np.asarray(picture.axes[0].images[0].get_array()) for picture in pictures)
    assert np.array_equal(first, second) and not caplog.records


# --- the classifier


def stripes(count, seed):
    """Noisy 2×5×4 images of four classes: the column that is brighter in the second channel."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    images = torch.rand(count, 2, 5, 4, generator=generator)
    images[:, 1] = 0.6 * images[:, 1] + 0.4 * nn.functional.one_hot(labels, 4)[:, None]
    return images, labels


def test_a_classifier_learns_images_of_any_shape_and_the_seed_decides_it():
    x, y = stripes(600, 0)
    state = torch.get_rng_state()
    first, again, other = (train_classifier(x, y, hidden=32, epochs=15, lr=5e-3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.hidden.weight, again.hidden.weight)
    assert not torch.equal(first.hidden.weight, other.hidden.weight)
    assert not first.training and first.output.out_features == 4
    assert accuracy(first, *stripes(400, 1)) > 0.95
    assert accuracy(Classifier((2, 5, 4), 4), *stripes(400, 1)) < 0.6


def test_accuracy_above_chance_on_real_digits():
    digits = data.load("mnist5k", binarize="threshold")
    classifier = train_classifier(digits.images("train"), digits.labels_of("train"), epochs=15)
    assert accuracy(classifier, digits.images("test"), digits.labels_of("test")) > 0.92
    shuffled = digits.labels_of("test").roll(1)  # every label is its neighbour's
    assert accuracy(classifier, digits.images("test"), shuffled) < 0.05
    p = class_distribution(classifier, digits.images("test"))
    assert total_variation(p) < 0.05
    assert total_variation(class_distribution(classifier, digits.images("test")[3::10])) > 0.8  # threes only


def test_97_of_100_mnist_digits_are_right_after_a_few_epochs(tmp_path):
    root = Path(__file__).parents[3] / "shared" / "data"
    if not (root / "MNIST").is_dir():
        pytest.skip(f"needs the published files in {root / 'MNIST'}")
    digits = data.load("mnist", root=root, binarize="none")
    classifier = cached_classifier(digits, epochs=4, root=tmp_path)
    assert accuracy(classifier, digits.images("test"), digits.labels_of("test")) > 0.97


def test_a_classifier_is_linear_relu_dropout_linear():
    classifier = Classifier((2, 3, 4), 5, hidden=7, dropout=0.5)
    x = torch.rand(2500, 2, 3, 4)
    with torch.no_grad():
        h = (x.flatten(1) @ classifier.hidden.weight.T + classifier.hidden.bias).clamp(min=0)
        logits = h @ classifier.output.weight.T + classifier.output.bias
        assert not torch.allclose(classifier(x), logits)  # it is in training mode, and drops
    torch.testing.assert_close(measures.features(classifier, x), h)
    assert classifier.training
    expected = logits.softmax(1).mean(0).double()
    torch.testing.assert_close(class_distribution(classifier, x), expected, atol=1e-6, rtol=0)
    assert accuracy(classifier, x, logits.argmax(1)) == 1


def test_pixels_of_a_dynamic_binarisation_are_drawn_for_every_batch():
    seen = []

    def batch(indices):
        seen.append(indices)
        return x[indices]

    x, y = stripes(50, 0)
    train_classifier(x, y, batch=batch, epochs=2, batch_size=20)
    assert [len(indices) for indices in seen] == [20, 20, 10] * 2
    assert torch.cat(seen[:3]).sort().values.tolist() == list(range(50))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(4).long(), r"shape \(4,\) for images of shape \(5, 1, 2, 2\)"),
        (torch.zeros(5), "labels are torch.float32"),
        (torch.tensor([0, 1, 2, -1, 0]), r"labels in -1…2, expected 0…2"),
    ],
)
def test_labels_that_are_none_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        train_classifier(torch.rand(5, 1, 2, 2), labels)


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"shape \(3, 1, 5, 4\), this classifier expects \(N, 2, 5, 4\)"):
        Classifier((2, 5, 4))(torch.rand(3, 1, 5, 4))
    with pytest.raises(ValueError, match="no images"):
        class_distribution(Pixels(), torch.rand(0, 1, 2, 2))


# --- its cache


@pytest.fixture
def striped():
    (x, y), (few, few_labels) = stripes(300, 0), stripes(20, 1)
    return ImageSet("folder/stripes.npz", x, few, few, {"train": y, "test": few_labels})


SMALL = {"hidden": 8, "epochs": 2}


def trained_anew(monkeypatch):
    """The classifiers that are trained from here on."""
    calls = []

    def counted(*args, train=classifying.train_classifier, **kwargs):
        calls.append(kwargs)
        return train(*args, **kwargs)

    monkeypatch.setattr(classifying, "train_classifier", counted)
    return calls


def test_a_classifier_is_trained_once(striped, tmp_path, monkeypatch):
    calls = trained_anew(monkeypatch)
    first = cached_classifier(striped, root=tmp_path, **SMALL)
    second = cached_classifier(striped, root=tmp_path, **SMALL)
    assert len(calls) == 1 and len(list(tmp_path.iterdir())) == 1
    assert not first.training and not second.training
    x = striped.images("test")
    assert torch.equal(first(x), second(x))


def test_other_data_or_settings_are_another_classifier(striped, tmp_path, monkeypatch):
    calls = trained_anew(monkeypatch)
    swapped = dict(striped.labels, train=3 - striped.labels["train"])
    others = [
        (striped, SMALL),
        (striped, SMALL | {"seed": 1}),
        (striped, SMALL | {"hidden": 9}),
        (striped, SMALL | {"dropout": 0.1}),
        (striped.with_binarisation("threshold"), SMALL),
        (striped.with_binarisation("dynamic"), SMALL),
        (ImageSet(striped.name, striped.train, striped.valid, striped.test, swapped), SMALL),
        (ImageSet(striped.name, 1 - striped.train, striped.valid, striped.test, striped.labels), SMALL),
    ]
    for _ in range(2):
        for images, settings in others:
            cached_classifier(images, root=tmp_path, **settings)
    assert len(calls) == len(list(tmp_path.iterdir())) == len(others)


def flip(raw):
    """One bit of a weight, where the file still opens."""
    return raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 1]) + raw[len(raw) // 2 + 1 :]


@pytest.mark.parametrize("damage", [flip, lambda raw: raw[:-100], lambda raw: b"", lambda raw: b"no classifier" * 10])
def test_a_damaged_classifier_is_trained_anew_and_the_log_says_so(
    striped, tmp_path, monkeypatch, caplog, damage, recwarn
):
    first = cached_classifier(striped, root=tmp_path, **SMALL)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    calls = trained_anew(monkeypatch)
    with caplog.at_level(logging.INFO):
        second = cached_classifier(striped, root=tmp_path, **SMALL)
    assert len(calls) == 1 and f"the classifier in {path} is damaged" in caplog.text and not recwarn.list
    assert torch.equal(first.hidden.weight, second.hidden.weight)
    cached_classifier(striped, root=tmp_path, **SMALL)
    assert len(calls) == 1 and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_costs_only_time(striped, tmp_path):
    (tmp_path / "file").write_text("")
    assert cached_classifier(striped, root=tmp_path / "file" / "folder", **SMALL).image_shape == (2, 5, 4)


def test_the_users_cache_folder_is_the_default(striped, tmp_path, monkeypatch):
    monkeypatch.setattr(classifying, "folder", lambda: tmp_path / "classifiers")
    cached_classifier(striped, **SMALL)
    assert [path.suffix for path in (tmp_path / "classifiers").iterdir()] == [".pt"]


def test_data_without_labels_have_no_classifier(tmp_path):
    x = torch.rand(3, 1, 2, 2)
    with pytest.raises(DataError, match="plain has no labels for 'train'"):
        cached_classifier(ImageSet("plain", x, x, x), root=tmp_path)


# --- the distribution of classes


def test_total_variation_and_entropy_by_hand():
    p = torch.tensor([0.7, 0.2, 0.1, 0.0])
    assert total_variation(p) == pytest.approx(0.45)  # (0.45 + 0.05 + 0.15 + 0.25) / 2
    assert entropy(p) == pytest.approx(-(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)))
    q = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert total_variation(p, q) == total_variation(q, p) == pytest.approx(0.6)
    # The largest difference of the probability of any event.
    events = [sum((p - q)[i].item() for i in range(4) if bits[i]) for bits in product((0, 1), repeat=4)]
    assert total_variation(p, q) == pytest.approx(max(events))
    uniform = torch.full((10,), 0.1)
    assert total_variation(uniform) == pytest.approx(0, abs=1e-7) and entropy(uniform) == pytest.approx(math.log(10))
    assert total_variation(torch.eye(10)[3]) == pytest.approx(0.9) and entropy(torch.eye(10)[3]) == 0


@pytest.mark.parametrize("p", [torch.tensor([3.0, 4.0]), torch.tensor([1.5, -0.5]), torch.full((2, 2), 0.25)])
def test_what_is_no_distribution_is_refused(p):
    for measure in total_variation, entropy:
        with pytest.raises(ValueError, match="divide counts by their sum"):
            measure(p)
    with pytest.raises(ValueError, match="over 2 and 3 classes"):
        total_variation(torch.tensor([0.5, 0.5]), torch.full((3,), 1 / 3))


def test_doubtful_samples_count_for_several_classes():
    logits = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]).log().reshape(2, 1, 1, 3)
    torch.testing.assert_close(class_distribution(Pixels(), logits), torch.tensor([0.6, 0.15, 0.25]).double())


# --- the Fréchet distance


def closed_form(a, b):
    a, b = a.double().numpy(), b.double().numpy()
    gap = a.mean(0) - b.mean(0)
    c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return gap @ gap + np.trace(c + d - 2 * sqrtm(c @ d).real)


def test_the_distance_is_the_closed_form_of_the_features():
    torch.manual_seed(0)
    classifier = Classifier((1, 6, 5), hidden=12, dropout=0.5)
    x = torch.rand(2300, 1, 6, 5)  # three chunks
    y = torch.rand(1200, 1, 6, 5) ** 2
    expected = closed_form(measures.features(classifier, x), measures.features(classifier, y))
    assert expected > 0.01
    assert classifier_frechet_distance(classifier, x, y) == pytest.approx(expected, rel=1e-6)
    assert classifier_frechet_distance(classifier, y, x) == pytest.approx(expected, rel=1e-6)
    assert classifier.training  # as it was
    assert classifier_frechet_distance(classifier, x, x) == pytest.approx(0, abs=1e-6)
    # Its units: twice the features, four times the distance.
    with torch.no_grad():
        classifier.hidden.weight.mul_(2), classifier.hidden.bias.mul_(2)
    assert classifier_frechet_distance(classifier, x, y) == pytest.approx(4 * expected, rel=1e-6)


def test_the_distance_of_gaussian_features_is_the_one_of_torchmetrics():
    """FrechetInceptionDistance of torchmetrics 1.9.0 gave these numbers, with the pixels as features, in float64."""
    random = np.random.RandomState(0)
    x, y = (random.normal(size=(count, 6)) for count in (2500, 1200))
    y = y @ random.normal(size=(6, 6)) + 0.5
    constant = y * [1, 1, 1, 0, 0, 0]  # half of the features do not vary: this covariance is singular
    for samples, expected in (y, 13.093473508446973), (constant, 6.249750931096038):
        images = [torch.from_numpy(array).reshape(-1, 1, 2, 3) for array in (x, samples)]
        assert classifier_frechet_distance(Pixels(), *images) == pytest.approx(expected, abs=1e-6)
        assert classifier_frechet_distance(Pixels(), *images[::-1]) == pytest.approx(expected, abs=1e-6)


def test_the_distance_of_two_normals_is_their_closed_form():
    """Of N(m, diag a²) and N(m', diag b²): ‖m - m'‖² + Σ (a - b)²; samples of exactly these moments."""
    random = np.random.RandomState(1)
    white = random.normal(size=(500, 4))
    white = np.linalg.solve(np.linalg.cholesky(np.cov(white, rowvar=False)), (white - white.mean(0)).T).T
    a, b, shift = np.array([1.0, 2.0, 0.5, 0.0]), np.array([3.0, 0.1, 0.5, 2.0]), np.array([0.0, 1.0, -2.0, 0.3])
    x, y = (torch.from_numpy(array).reshape(-1, 1, 2, 2) for array in (white * a, white * b + shift))
    expected = (shift**2).sum() + ((a - b) ** 2).sum()
    assert classifier_frechet_distance(Pixels(), x, y) == pytest.approx(expected, abs=1e-9)


def test_a_shift_alone_is_its_squared_length():
    """And neither bytes nor clamping come between: 1/1000 is less than a grey level, 3 more than white."""
    x = torch.rand(200, 1, 2, 2, dtype=torch.float64)
    for shift in 1e-3, 3.0:
        assert classifier_frechet_distance(Pixels(), x, x + shift) == pytest.approx(4 * shift**2, rel=1e-4)


def test_units_that_never_fire_do_not_matter():
    classifier = Classifier((1, 3, 3), hidden=6)
    x, y = torch.rand(100, 1, 3, 3), torch.rand(80, 1, 3, 3) ** 3
    with torch.no_grad():
        classifier.hidden.bias.copy_(torch.tensor([-100.0, -100, 1, 1, 1, 1]))
    alive = [measures.features(classifier, t)[:, 2:] for t in (x, y)]
    assert classifier_frechet_distance(classifier, x, y) == pytest.approx(closed_form(*alive), rel=1e-5, abs=1e-6)


def test_too_few_images_for_a_covariance_are_refused():
    x = torch.rand(50, 1, 2, 4)
    classifier_frechet_distance(Pixels(), x, x[:9])
    with pytest.raises(ValueError, match="8 samples give no covariance of 8 features: expected at least 9"):
        classifier_frechet_distance(Pixels(), x, x[:8])
    with pytest.raises(ValueError, match="8 images give no covariance"):
        classifier_frechet_distance(Pixels(), x[:8], x)
    with pytest.raises(ValueError, match="samples have pixels that are not finite"):
        classifier_frechet_distance(Pixels(), x, x / 0)


# --- neighbours


def votes(distances, labels, k):
    """The most frequent label among the k nearest; of equals the smallest."""
    return [np.bincount(labels[row.argsort()[:k]]).argmax() for row in distances]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_knn_accuracy_is_that_of_brute_force(k):
    rng = np.random.default_rng(0)
    codes, labels = rng.normal(size=(120, 3)), rng.integers(4, size=120)
    codes[:, 0] += labels
    test_codes, test_labels = rng.normal(size=(70, 3)), rng.integers(4, size=70)
    test_codes[:, 0] += test_labels
    apart = np.linalg.norm(codes[:, None] - codes, axis=2)
    np.fill_diagonal(apart, np.inf)
    alone = np.mean(votes(apart, labels, k) == labels)
    across = np.mean(votes(np.linalg.norm(test_codes[:, None] - codes, axis=2), labels, k) == test_labels)
    tensors = [torch.from_numpy(array) for array in (codes, labels, test_codes, test_labels)]
    assert 0.3 < alone < 0.9 and 0.3 < across < 0.9
    assert knn_accuracy(*tensors[:2], k=k) == pytest.approx(alone)
    assert knn_accuracy(*tensors, k=k) == pytest.approx(across)


def test_neighbours_that_are_not_there_are_refused():
    codes, labels = torch.rand(5, 2), torch.zeros(5).long()
    assert knn_accuracy(codes, labels, k=4) == knn_accuracy(codes, labels, codes, labels, k=5) == 1
    with pytest.raises(ValueError, match="k = 5 neighbours, expected 1 to 4"):
        knn_accuracy(codes, labels, k=5)
    with pytest.raises(ValueError, match="give both, or neither"):
        knn_accuracy(codes, labels, codes)
    with pytest.raises(ValueError, match=r"labels of shape \(4,\), expected \(N, latent\)"):
        knn_accuracy(codes, labels[:4])
    with pytest.raises(ValueError, match="k = 6 neighbours, expected 1 to 5"):
        nearest(codes[:, None, None], codes[:, None, None], k=6)
    with pytest.raises(ValueError, match="expected one image shape"):
        nearest(torch.rand(5, 1, 2, 2), torch.rand(5, 1, 4, 1))


def test_nearest_images_are_those_of_brute_force():
    samples, training = torch.rand(40, 2, 4, 3), torch.rand(90, 2, 4, 3)
    apart = (samples[:, None] - training).double().square().sum((2, 3, 4)).sqrt()
    distances, indices = apart.sort(1)
    found = nearest(samples, training, k=4)
    assert torch.equal(found.indices, indices[:, :4])
    torch.testing.assert_close(found.distances, distances[:, :4], rtol=1e-6, atol=0)


def test_a_copy_shows():
    training = data.load("mnist5k", binarize="none").images("train")
    fresh = noise_images((1, 28, 28), 5, values="levels")
    found = nearest(torch.cat([training[[321, 7]], fresh]), training)
    assert found.indices[:2, 0].tolist() == [321, 7]
    assert found.distances[:2, 0].tolist() == [0, 0] and found.distances[2:].min() > 5


# --- outliers


def test_auroc_is_the_share_of_pairs_in_order():
    inside, outside = torch.randn(70).mul(3).round() + 2, torch.randn(50).mul(3).round()  # with many ties
    pairs = inside[:, None] - outside
    expected = ((pairs > 0).double() + 0.5 * (pairs == 0)).mean().item()
    assert 0.55 < expected < 0.9
    assert auroc(inside, outside) == pytest.approx(expected)
    assert auroc(outside, inside) == pytest.approx(1 - expected)
    assert auroc(inside, inside) == pytest.approx(0.5)
    # Only the order counts, and impossible images are below all others.
    assert auroc(inside.double() * 1e6 - 1e9, outside.double() * 1e6 - 1e9) == pytest.approx(expected)
    assert auroc(torch.tensor([-80.0, -math.inf]), torch.tensor([-math.inf, -90.0])) == 0.625


def test_scores_that_are_none_are_refused():
    with pytest.raises(ValueError, match="outside scores .* with 1 NaN"):
        auroc(torch.randn(3), torch.tensor([0.0, math.nan]))
    with pytest.raises(ValueError, match=r"inside scores are of shape \(0,\)"):
        auroc(torch.randn(0), torch.randn(3))


def test_noise_has_the_datas_values_each_as_often():
    state = torch.get_rng_state()
    bits, levels, unit = (noise_images((3, 4, 5), 2000, values=values) for values in ("binary", "levels", "unit"))
    assert torch.equal(torch.get_rng_state(), state)
    for noise in bits, levels, unit:
        assert noise.shape == (2000, 3, 4, 5) and noise.dtype == torch.float32
        assert noise.mean().item() == pytest.approx(0.5, abs=0.01)
        assert noise.flatten(1)[:, :2].T.corrcoef()[0, 1].abs() < 0.1
    assert bits.unique().tolist() == [0, 1]
    assert levels.mul(255).unique().tolist() == list(range(256))
    assert unit.var().item() == pytest.approx(1 / 12, abs=0.003) and len(unit.unique()) > 50_000
    assert torch.equal(noise_images((3, 4, 5), 2000), bits)
    assert not torch.equal(noise_images((3, 4, 5), 2000, seed=1), bits)
    grey = data.load("mnist5k", binarize="none")
    assert noise_images(grey.image_shape, 3, values=grey.values).shape == (3, 1, 28, 28)
    with pytest.raises(ValueError, match="values 'gray': expected binary, levels or unit"):
        noise_images((1, 2, 2), 3, values="gray")
    with pytest.raises(ValueError, match="0 images of noise"):
        noise_images((1, 2, 2), 0)


# --- pictures


def test_bars_are_the_shares_beside_the_uniform_one():
    axes = plots.class_bars(torch.tensor([0.5, 0.3, 0.2, 0.0])).axes[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.5, 0.3, 0.2, 0.0])
    assert list(axes.lines[0].get_ydata()) == [0.25, 0.25]


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_stand_left_of_their_neighbours(channels):
    """Sample n has brightness n/10, its neighbours a little more; paper is between the groups."""
    samples = torch.arange(1, 6).div(10).reshape(5, 1, 1, 1).expand(5, channels, 2, 2)
    neighbours = samples[:, None] + torch.tensor([0.01, 0.02]).reshape(1, 2, 1, 1, 1)
    picture = np.asarray(plots.beside_nearest(samples, neighbours, columns=9).axes[0].images[0].get_array())
    shown = picture[2::4, 2::4, 0]  # a pixel of each cell
    ink = shown if channels == 3 else 1 - shown
    paper = 1.0 if channels == 3 else 0.0
    expected = [cell for n in range(1, 6) for cell in (n / 10, n / 10 + 0.01, n / 10 + 0.02, paper)]
    assert ink.flatten()[:20] == pytest.approx(np.array(expected), abs=1e-6)
    assert ink.shape == (3, 8)  # two groups of four in a row of at most nine


def test_histograms_hold_every_score_and_the_auroc():
    inside, outside = torch.linspace(-100, -80, 40), torch.linspace(-500, -90, 60)
    figure = plots.score_histograms(inside, outside, auroc(inside, outside), names=("digits", "noise"))
    axes = figure.axes[0]
    heights = [sum(bar.get_height() for bar in group) for group in axes.containers]
    assert heights == pytest.approx([1, 1])
    assert axes.get_title() == f"digits against noise: AUROC {auroc(inside, outside):.4f}"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["digits", "noise"]
