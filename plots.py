"""Pictures: functions from tensors to a matplotlib Figure, shown inline in a notebook, saved by `figure.savefig`."""

import math

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def image_grid(images, columns=None, title=None, gap=2):
    """Images (N, channels, height, width) in [0, 1] side by side, row by row.

    Three channels are colours; of any other number the first is shown, as ink on paper.

    >>> image_grid(torch.rand(6, 1, 8, 8), columns=3, title="noise")
    <Figure size 192x158 with 1 Axes>
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    images = images.detach().cpu().float()
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
    """ELBO and its two parts over epochs, from the dicts that `fit` yields.

    >>> training_curves([{"epoch": 1, "loss": 200.0, "elbo": -190.0, "reconstruction": -180.0, "kl": 10.0}])
    <Figure size 900x360 with 2 Axes>
    """
    epochs = [line["epoch"] for line in metrics]
    figure = Figure(figsize=(9, 3.6), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [-line["loss"] for line in metrics], label="training (its own KL weight)")
    left.plot(epochs, [line["elbo"] for line in metrics], label="validation")
    best = max(metrics, key=lambda line: line["elbo"])
    left.plot(best["epoch"], best["elbo"], "o", color="C1", label=f"best: {best['elbo']:.2f} in epoch {best['epoch']}")
    left.set_ylabel("ELBO, nats per image")
    # The first epochs are far below the rest: leave them out of the frame, not out of the data.
    bulk = sorted(line["elbo"] for line in metrics)[len(metrics) // 5 :]
    high = max(max(bulk), max(-line["loss"] for line in metrics))
    left.set_ylim(bulk[0] - 0.3 * (high - bulk[0]) - 1, high + 0.05 * (high - bulk[0]) + 1)
    right.plot(epochs, [-line["reconstruction"] for line in metrics], label="-E[log p(x | z)]", color="C2")
    right.plot(epochs, [line["kl"] for line in metrics], label="KL(q(z | x) ‖ p(z))", color="C3")
    right.set_ylabel("validation, nats per image")
    right.set_ylim(bottom=0)
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


def pareto_k(values, limit=0.7):
    """A histogram of k̂ image by image, and the limit above which an estimate is not to be trusted.

    >>> pareto_k(torch.rand(50))
    <Figure size 500x320 with 1 Axes>
    """
    figure = Figure(figsize=(5, 3.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.hist(values[~values.isnan()].numpy(), bins=30)
    axes.axvline(limit, color="C3", label=f"{limit}: {(values > limit).sum()} of {len(values)} images above")
    axes.set_xlabel("Pareto k̂ of an image's weights")
    axes.set_ylabel("images")
    axes.legend(fontsize=8)
    return figure
