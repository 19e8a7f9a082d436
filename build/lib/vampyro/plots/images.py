"""Pictures: functions from tensors to a matplotlib Figure, saved by `figure.savefig`.

A notebook shows one that ends a cell, after `%matplotlib inline`.
"""

import math

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def image_grid(images, columns=None, title=None, gap=2, captions=None):
    """Images (N, channels, height, width) in [0, 1] side by side, row by row.

    Three channels are colours; of any other number the first is shown, as ink on paper. `captions`, a word or number
    for each image, stand in their corners.

    >>> image_grid(torch.rand(6, 1, 8, 8), columns=3, title="noise")
    <Figure size 192x158 with 1 Axes>
    """
    if images.ndim != 4:
        raise ValueError(f"image_grid expects images (N, channels, height, width), got {tuple(images.shape)}")
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    images = images.detach().cpu().float().clamp(0, 1)
    if images.shape[1] != 3:
        images = 1 - images[:, :1].expand(-1, 3, -1, -1)
    cells = torch.ones(rows * columns, 3, images.shape[2] + gap, images.shape[3] + gap)
    cells[: len(images), :, gap:, gap:] = images
    # (rows, columns, channels, height, width) → one picture (height, width, channels)
    picture = cells.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    scale = 0.64 * columns / picture.shape[1]  # inches a pixel, on a page of at most 30 inches
    scale = min(scale, 30 / max(picture.shape[:2]))
    height, width = (max(1.0, scale * size) for size in picture.shape[:2])
    figure = Figure(figsize=(width, height + (0.3 if title else 0)), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture.numpy(), vmin=0, vmax=1, interpolation="nearest")
    axes.axis("off")
    for place, caption in enumerate(captions or ()):
        top, left = (gap + n * size for n, size in zip(divmod(place, columns), cells.shape[2:]))
        axes.text(left, top, str(caption), fontsize=6, va="top", color="C3")
    if title:
        figure.suptitle(title, fontsize=8)
    return figure


def reconstructions(originals, means, columns=10):
    """Originals above their reconstructions, a row of each in turn; both (N, channels, height, width).

    >>> reconstructions(torch.rand(20, 1, 8, 8), torch.rand(20, 1, 8, 8))
    <Figure size 640x286 with 1 Axes>
    """
    pairs = [torch.cat([x, mean]) for x, mean in zip(originals.split(columns), means.split(columns))]
    return image_grid(torch.cat(pairs), columns, title="above: x; below: the mean of p(x | z), z ~ q(z | x)")


def training_curves(metrics):
    """ELBO and its two parts over epochs, from the dicts that `fit` yields; of points the objective and its parts.

    >>> training_curves([{"epoch": 1, "loss": 200.0, "elbo": -190.0, "reconstruction": -180.0, "kl": 10.0}])
    <Figure size 900x360 with 2 Axes>
    """
    if "elbo" in metrics[0]:
        kind, name, second, cost = "elbo", "ELBO", "KL(q(z | x) ‖ p(z))", [line["kl"] for line in metrics]
    else:  # the latents are points
        kind, name, second = "objective", "log p(x | z) + β log p(z)", "-log p(z)"
        cost = [-line["log_prior"] for line in metrics]
    epochs = [line["epoch"] for line in metrics]
    figure = Figure(figsize=(9, 3.6), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [-line["loss"] for line in metrics], label="training (its own KL weight)")
    left.plot(epochs, [line[kind] for line in metrics], label="validation")
    best = max(metrics, key=lambda line: line[kind])
    left.plot(best["epoch"], best[kind], "o", color="C1", label=f"best: {best[kind]:.2f} in epoch {best['epoch']}")
    left.set_ylabel(f"{name}, nats per image")
    # The first epochs are far below the rest: leave them out of the frame, not out of the data.
    bulk = sorted(line[kind] for line in metrics)[len(metrics) // 5 :]
    high = max(max(bulk), max(-line["loss"] for line in metrics))
    left.set_ylim(bulk[0] - 0.3 * (high - bulk[0]) - 1, high + 0.05 * (high - bulk[0]) + 1)
    right.plot(epochs, [-line["reconstruction"] for line in metrics], label="-E[log p(x | z)]", color="C2")
    right.plot(epochs, cost, label=second, color="C3")
    right.set_ylabel("validation, nats per image")
    right.set_ylim(bottom=min(0, *cost))
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def convergence(steps):
    """The mean log p̂(x) against the number of importance samples: [(samples, nats), …], the last with all of them.

    >>> convergence([(1, -100.0), (2, -98.0), (4, -97.0)])
    <Figure size 500x320 with 1 Axes>
    """
    figure = Figure(figsize=(5, 3.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*steps), "o-", ms=4)
    axes.set_xscale("log")
    axes.set_xlabel("importance samples S")
    axes.set_ylabel("mean log p̂(x), nats per image")
    axes.set_title("S = 1 is the ELBO; where it still rises, S is too small", fontsize=9)
    axes.grid(alpha=0.3)
    return figure


def pareto_k(values, limit):
    """A histogram of k̂ image by image, and the limit above which an estimate is not to be trusted (`pareto_limit`).

    >>> pareto_k(torch.rand(50), 0.67)
    <Figure size 500x320 with 1 Axes>
    """
    figure = Figure(figsize=(5, 3.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.hist(values[values.isfinite()].numpy(), bins=30)
    axes.axvline(limit, color="C3", label=f"{limit:.2f}: {(values > limit).sum()} of {len(values)} images above")
    axes.set_xlabel("Pareto k̂ of an image's weights")
    axes.set_ylabel("images")
    axes.legend(fontsize=8)
    return figure


def class_bars(probabilities, title=None):
    """The classes' shares of samples (classes,), beside the line at which all would be equal.

    >>> class_bars(torch.full((10,), 0.1))
    <Figure size 500x320 with 1 Axes>
    """
    shares = torch.as_tensor(probabilities).detach().cpu()
    figure = Figure(figsize=(5, 3.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(shares)), shares.tolist())
    axes.axhline(1 / len(shares), color="black", linewidth=1, linestyle="--", label="uniform")
    axes.set_xlabel("class")
    axes.xaxis.set_major_locator(MaxNLocator(20, integer=True))
    axes.set_ylabel("share of samples")
    axes.set_title(title or "classes of samples", fontsize=10)
    axes.legend()
    return figure


def beside_nearest(samples, neighbours, columns=12):
    """Each sample, and to its right its nearest training images; then a gap, and the next.

    Args:
        samples: (N, channels, height, width).
        neighbours: (N, k, channels, height, width), nearest first.
        columns: images in a row, about.

    >>> beside_nearest(torch.rand(8, 1, 8, 8), torch.rand(8, 2, 8, 8)[:, :, None])
    <Figure size 768x222 with 1 Axes>
    """
    blank = torch.full_like(samples[:, None], 1.0 if samples.shape[1] == 3 else 0.0)  # the colour of paper
    groups = torch.cat([samples[:, None], neighbours.to(samples), blank], 1)
    k, across = neighbours.shape[1], max(1, columns // groups.shape[1])
    title = f"left of each group: a sample; right: the {k} nearest training images"
    return image_grid(groups.flatten(0, 1), across * groups.shape[1], title)


def score_histograms(inside, outside, auroc, names=("data", "others")):
    """How log p̂(x) is distributed over images of the data and over others, with the AUROC in the title.

    Args:
        inside, outside: (N,) and (M,), nats per image.
        auroc: the area under the ROC curve of the two.
        names: what they are of.

    >>> score_histograms(torch.randn(50) - 90, torch.randn(50) - 200, auroc=1.0, names=("MNIST", "noise"))
    <Figure size 600x360 with 1 Axes>
    """
    figure = Figure(figsize=(6, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    inside, outside = (scores.detach().double().cpu() for scores in (inside, outside))
    finite = torch.cat([inside, outside])
    finite = finite[finite.isfinite()]
    bins = torch.linspace(finite.min(), finite.max(), 61, dtype=torch.float64).numpy()
    for scores, name in zip((inside, outside), names, strict=True):
        axes.hist(scores.numpy(), bins, weights=torch.full_like(scores, 1 / len(scores)).numpy(), alpha=0.6, label=name)
    axes.set_xlabel("log p̂(x), nats per image")
    axes.set_ylabel("share of images")
    axes.set_title(f"{names[0]} against {names[1]}: AUROC {auroc:.4f}", fontsize=10)
    axes.legend()
    return figure
