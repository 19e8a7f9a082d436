"""Pictures: functions from tensors to a matplotlib Figure, saved by `figure.savefig`.

A notebook shows one that ends a cell, after `%matplotlib inline`.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches."""
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def new_axes(
    width: float, height: float, xlabel: str, ylabel: str, title: str = "", integers: bool = False
) -> tuple[Figure, Axes]:
    """Return a figure and its labelled axes; `integers` marks whole numbers only on the horizontal one."""
    figure = new_figure(width, height)
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, fontsize=10)
    if integers:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def image_grid(
    images: Tensor, columns: int | None = None, title: str = "", gap: int = 2, captions: Sequence[object] | None = None
) -> Figure:
    """Plot images (N, channels, height, width) in [0, 1] side by side, row by row.

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
    # Inches a pixel, on a page of at most 30 inches.
    scale = min(0.64 * columns / picture.shape[1], 30 / max(picture.shape[:2]))
    height, width = (max(1.0, scale * size) for size in picture.shape[:2])
    figure = new_figure(width, height + (0.3 if title else 0))
    axes = figure.subplots()
    axes.imshow(picture.numpy(), vmin=0, vmax=1, interpolation="nearest")
    axes.axis("off")
    for place, caption in enumerate(captions or ()):
        top, left = (gap + n * size for n, size in zip(divmod(place, columns), cells.shape[2:]))
        axes.text(left, top, str(caption), fontsize=6, va="top", color="C3")
    if title:
        figure.suptitle(title, fontsize=8)
    return figure


def reconstructions(originals: Tensor, means: Tensor, columns: int = 10) -> Figure:
    """Plot originals above their reconstructions, a row of each in turn; both (N, channels, height, width).

    >>> reconstructions(torch.rand(20, 1, 8, 8), torch.rand(20, 1, 8, 8))
    <Figure size 640x286 with 1 Axes>
    """
    pairs = [torch.cat([x, mean]) for x, mean in zip(originals.split(columns), means.split(columns))]
    return image_grid(torch.cat(pairs), columns, title="above: x; below: the mean of p(x | z), z ~ q(z | x)")


def training_curves(metrics: Sequence[Mapping[str, float]]) -> Figure:
    """Plot the ELBO and its two parts over epochs, from the dicts that `fit` yields.

    For a Delta posterior these are the objective and its parts.

    >>> training_curves([{"epoch": 1, "loss": 200.0, "elbo": -190.0, "reconstruction": -180.0, "kl": 10.0}])
    <Figure size 900x360 with 2 Axes>
    """
    if "elbo" in metrics[0]:
        kind, name, second, cost = "elbo", "ELBO", "KL(q(z | x) ‖ p(z))", [line["kl"] for line in metrics]
    else:  # of a Delta posterior
        kind, name, second = "objective", "log p(x | z) + β log p(z)", "-log p(z)"
        cost = [-line["log_prior"] for line in metrics]
    epochs, training = [line["epoch"] for line in metrics], [-line["loss"] for line in metrics]
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    left.plot(epochs, training, label="training (its own KL weight)")
    left.plot(epochs, [line[kind] for line in metrics], label="validation")
    best = max(metrics, key=lambda line: line[kind])
    left.plot(best["epoch"], best[kind], "o", color="C1", label=f"best: {best[kind]:.2f} in epoch {best['epoch']}")
    left.set_ylabel(f"{name}, nats per image")
    # The first epochs are far below the rest: leave them out of the frame, not out of the data.
    bulk = sorted(line[kind] for line in metrics)[len(metrics) // 5 :]
    high = max(*bulk, *training)
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


def convergence(steps: Sequence[tuple[int, float]]) -> Figure:
    """Plot the mean log p̂(x) against the number of importance samples: [(samples, nats), …], the last with all of them.

    >>> convergence([(1, -100.0), (2, -98.0), (4, -97.0)])
    <Figure size 500x320 with 1 Axes>
    """
    title = "S = 1 is the ELBO; where it still rises, S is too small"
    figure, axes = new_axes(5, 3.2, "importance samples S", "mean log p̂(x), nats per image", title)
    axes.plot(*zip(*steps), "o-", ms=4)
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
    return figure


def pareto_k(values: Tensor, limit: float) -> Figure:
    """Plot a histogram of k̂ image by image, and the limit above which an estimate cannot be trusted (`pareto_limit`).

    >>> pareto_k(torch.rand(50), 0.67)
    <Figure size 500x320 with 1 Axes>
    """
    figure, axes = new_axes(5, 3.2, "Pareto k̂ of an image's weights", "images")
    axes.hist(values[values.isfinite()].numpy(), bins=30)
    axes.axvline(limit, color="C3", label=f"{limit:.2f}: {(values > limit).sum()} of {len(values)} images above")
    axes.legend(fontsize=8)
    return figure


def class_bars(probabilities: Tensor, title: str = "classes of samples") -> Figure:
    """Plot the classes' shares of samples (classes,), and the line at which all would be equal.

    >>> class_bars(torch.full((10,), 0.1))
    <Figure size 500x320 with 1 Axes>
    """
    figure, axes = new_axes(5, 3.2, "class", "share of samples", title)
    axes.bar(range(len(probabilities)), probabilities.tolist())
    axes.axhline(1 / len(probabilities), color="black", linewidth=1, linestyle="--", label="uniform")
    axes.xaxis.set_major_locator(MaxNLocator(20, integer=True))
    axes.legend()
    return figure


def beside_nearest(samples: Tensor, neighbours: Tensor, columns: int = 12) -> Figure:
    """Plot each sample, and to its right its nearest training images; then a gap, and the next.

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


def score_histograms(
    inside: Tensor, outside: Tensor, auroc: float, names: Sequence[str] = ("data", "others")
) -> Figure:
    """Plot how log p̂(x) is distributed over images of the data and over others, with the AUROC in the title.

    Args:
        inside, outside: (N,) and (M,), nats per image.
        auroc: the area under the ROC curve of the two.
        names: what they are of.

    >>> score_histograms(torch.randn(50) - 90, torch.randn(50) - 200, auroc=1.0, names=("MNIST", "noise"))
    <Figure size 600x360 with 1 Axes>
    """
    title = f"{names[0]} against {names[1]}: AUROC {auroc:.4f}"
    figure, axes = new_axes(6, 3.6, "log p̂(x), nats per image", "share of images", title)
    inside, outside = (scores.detach().double().cpu() for scores in (inside, outside))
    finite = torch.cat([inside, outside])
    finite = finite[finite.isfinite()]
    bins = torch.linspace(finite.min(), finite.max(), 61, dtype=torch.float64).tolist()
    for scores, name in zip((inside, outside), names, strict=True):
        axes.hist(scores.numpy(), bins, weights=torch.full_like(scores, 1 / len(scores)).numpy(), alpha=0.6, label=name)
    axes.legend()
    return figure
