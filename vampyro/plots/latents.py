"""Pictures of latents and of what they cost: functions from tensors to a matplotlib Figure, as in `plots`."""

from collections.abc import Callable, Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vampyro.plots.images import new_axes

LogProb = Callable[[Tensor], Tensor]
Range = tuple[float, float]
Grid = tuple[Tensor, Tensor, Tensor]  # horizontal and vertical coordinates, and the density at their pairs
ACTIVE, INACTIVE = "C0", "0.75"
TITLE = "z ~ q(z | x)"


def kl_bars(kl: Tensor, active: Tensor | None = None, title: str = "KL of each latent") -> Figure:
    """Plot KL(q(z_d | x) ‖ p(z_d)) of every dimension, largest first; those that are not active in grey.

    Args:
        kl: (latent,), nats per image.
        active: (latent,) of bools, or None where nothing is known of it.

    >>> kl_bars(torch.tensor([0.1, 3.0, 1.2]), torch.tensor([False, True, True]))
    <Figure size 700x320 with 1 Axes>
    """
    heights, order = kl.detach().cpu().sort(descending=True)
    ylabel = f"nats per image (sum {heights.sum():.2f})"
    figure, axes = new_axes(7, 3.2, "latent dimension, sorted", ylabel, title, integers=True)
    if active is None:
        axes.bar(range(len(heights)), heights.tolist(), color=ACTIVE)
    else:
        active = active.cpu()[order]
        for some, color, name in ((active, ACTIVE, "active"), (~active, INACTIVE, "not active")):
            if some.any():
                positions = some.nonzero().squeeze(-1).tolist()
                axes.bar(positions, heights[some].tolist(), color=color, label=f"{name} ({len(positions)})")
        axes.legend()
    return figure


def component_bars(use: Tensor, share: float = 0.1, title: str = "use of each component") -> Figure:
    """Plot the mean responsibility of every component of a mixture, largest first, with the lines at 1/K and share/K.

    Args:
        use: (components,), adding up to 1.

    >>> component_bars(torch.tensor([0.5, 0.3, 0.199, 0.001]))
    <Figure size 700x320 with 1 Axes>
    """
    use = use.detach().cpu().double()
    count, effective = len(use), torch.special.entr(use).sum().exp()
    dead = use < share / count
    title = f"{title}: {effective:.1f} of {count} effective"
    figure, axes = new_axes(7, 3.2, "component, sorted", "mean responsibility", title, integers=True)
    order = use.argsort(descending=True)
    axes.bar(range(count), use[order].tolist(), width=1.0, color=[INACTIVE if d else ACTIVE for d in dead[order]])
    axes.axhline(1 / count, color="C1", linewidth=1, label="1/K")
    label = f"{share:g}/K: below it {int(dead.sum())} dead"
    axes.axhline(share / count, color="C3", linewidth=1, linestyle="--", label=label)
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(1e-6, 0.5 * min(share / count, float(use[use > 0].min()))))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def latent_plane(
    z: Tensor, labels: Tensor | None = None, log_prob: LogProb | None = None, count: int = 200, title: str = TITLE
) -> Figure:
    """Plot samples of the aggregated posterior in the plane, over contours of the prior's density.

    Args:
        z: (N, 2), one draw of z for each image.
        labels: (N,) whole numbers, by which they are coloured, or None.
        log_prob: (..., 2) → (...), the prior's, or None.
        count: of the contours' grid, along each side.

    Raises:
        ValueError: where z does not lie in a plane.

    >>> latent_plane(torch.randn(50, 2), torch.arange(50) % 3, lambda z: -z.square().sum(-1) / 2, count=20)
    <Figure size 600x560 with 2 Axes>
    """
    if z.ndim != 2 or z.shape[-1] != 2:
        raise ValueError(f"latent_plane shows points (N, 2), got shape {tuple(z.shape)}; for others see tsne_map")
    figure, axes = new_axes(6, 5.6, "z₁", "z₂", title)
    _points(axes, z, labels)
    if log_prob is not None:
        horizontal, vertical, density = _density_in_frame(log_prob, axes.get_xlim(), axes.get_ylim(), count, z)
        # Levels by what of the prior lies outside: the outermost leaves 1 % of what the frame shows.
        ordered = density.flatten().sort(descending=True).values
        inside = ordered.cumsum(0) / ordered.sum()
        levels = sorted({ordered[int((inside < p).sum())].item() for p in (0.2, 0.4, 0.6, 0.8, 0.9, 0.99)})
        axes.contour(horizontal, vertical, density, levels=levels, colors="black", linewidths=0.6, alpha=0.7)
        axes.plot([], [], color="black", linewidth=0.6, label="p(z): 20 … 99 % inside")
        axes.legend(loc="upper left", fontsize=8)
    return figure


def _density_in_frame(log_prob: LogProb, width: Range, height: Range, count: int, like: Tensor) -> Grid:
    """Return a grid and the density over its peak, in a frame that is widened until little of it lies outside."""
    for step in range(13):
        side = min(count, 50) if step < 12 else count  # the last grid is the one that is shown
        horizontal, vertical = torch.linspace(*width, side), torch.linspace(*height, side)
        with torch.no_grad():
            density = log_prob(torch.cartesian_prod(vertical, horizontal).flip(-1).to(like))
        density = density.reshape(side, side).double().cpu()
        density = (density - density.max()).exp()
        edges = [density[:, 0], density[:, -1], density[0], density[-1]]
        left, right, low, high = (0.2 * (edge.max() > 0.01).item() for edge in edges)
        (a, b), (c, d) = width, height
        width, height = (a - left * (b - a), b + right * (b - a)), (c - low * (d - c), d + high * (d - c))
    return horizontal, vertical, density


def tsne_map(
    codes: Tensor, labels: Tensor | None = None, most: int = 2000, seed: int = 0, title: str | None = None
) -> Figure:
    """Plot codes of more than two dimensions, laid out in the plane by t-SNE   (van der Maaten & Hinton 2008).

    Neighbours stay neighbours; distances between groups, their sizes and the axes mean nothing.

    Args:
        codes: (N, latent), samples or means of q(z | x); `most` of them are shown, drawn by `seed`.
        labels: (N,) whole numbers, by which they are coloured, or None.

    Raises:
        ValueError: where there are fewer than three codes.

    >>> tsne_map(torch.randn(20, 5), torch.arange(20) % 2)
    <Figure size 600x560 with 2 Axes>
    """
    from sklearn.manifold import TSNE  # a second and a half, which only this picture pays

    if len(codes) < 3:
        raise ValueError(f"t-SNE lays out at least three codes, got {len(codes)}")
    some = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))[:most]
    codes = codes.detach().cpu().flatten(1)[some].double()
    perplexity = min(30, (len(codes) - 1) / 3)
    plane = TSNE(init="random", perplexity=perplexity, random_state=seed).fit_transform(codes.numpy())
    figure, axes = new_axes(6, 5.6, "", "", title or f"t-SNE of {len(codes)} codes")
    _points(axes, torch.from_numpy(plane), None if labels is None else labels.cpu()[some])
    axes.set(xticks=[], yticks=[])
    return figure


def rate_distortion_curve(points: Sequence[tuple[float, float, float]], title: str = "rate and distortion") -> Figure:
    """Plot what several runs reach, each with its β: distortion to the right, rate upwards   (arXiv:1711.00464).

    Dotted lines have the same ELBO, -(D + R): the one at β = 1 that of the run nearest to it.

    Args:
        points: list of (β, rate, distortion), nats per image.

    >>> rate_distortion_curve([(0.5, 30.0, 70.0), (1.0, 24.0, 74.0), (2.0, 18.0, 83.0)])
    <Figure size 560x460 with 1 Axes>
    """
    points = sorted(points)
    xlabel, ylabel = "distortion D = -E[log p(x | z)], nats per image", "rate R = KL(q(z | x) ‖ p(z)), nats per image"
    figure, axes = new_axes(5.6, 4.6, xlabel, ylabel, title)
    rates, distortions = [rate for _, rate, _ in points], [distortion for _, _, distortion in points]
    axes.plot(distortions, rates, "o-")
    for beta, rate, distortion in points:
        axes.annotate(f"β = {beta:g}", (distortion, rate), xytext=(5, 5), textcoords="offset points", fontsize=8)
    _, rate, distortion = min(points, key=lambda point: abs(point[0] - 1))
    axes.axline((distortion, rate), slope=-1, color="0.5", linestyle=":", label=f"D + R = {distortion + rate:.2f}")
    axes.margins(0.15)
    axes.set_ylim(bottom=min(0.0, *rates))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def gap_bars(gaps: Mapping[str, tuple[float | Tensor, float | Tensor]], title: str = "log p̂(x) - ELBO") -> Figure:
    """Plot the approximation gap and the amortisation gap of several runs, or images   (arXiv:1801.03558).

    Args:
        gaps: {name: (approximation, amortisation)}, nats per image.

    >>> gap_bars({"standard": (1.2, 3.1), "vamp:50": (1.0, 2.5)})
    <Figure size 700x200 with 1 Axes>
    """
    figure, axes = new_axes(7, 1.2 + 0.4 * len(gaps), "nats per image", "", title)
    pairs = [(float(approximation), float(amortisation)) for approximation, amortisation in gaps.values()]
    approximation, amortisation = zip(*pairs)
    axes.barh(list(gaps), approximation, height=0.6, label="approximation: the family")
    label = "amortisation: one network for all"
    bars = axes.barh(list(gaps), amortisation, left=approximation, height=0.6, label=label)
    axes.bar_label(bars, [f"{a:.2f} + {b:.2f}" for a, b in pairs], padding=3, fontsize=8)
    axes.set_xlim(0, 1.4 * max(map(sum, pairs)))  # the rest is for the numbers
    axes.invert_yaxis()  # the first on top
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _points(axes: Axes, z: Tensor, labels: Tensor | None) -> None:
    """Dots in the plane, in a colour for each label, with a colour bar that names them."""
    x, y = z.detach().cpu().T
    if labels is None:
        axes.scatter(x, y, s=9, alpha=0.6, linewidths=0)
        return
    names, index = labels.cpu().unique(return_inverse=True)
    count = len(names)
    colours, size = ("tab10", 10) if count <= 10 else ("tab20", 20) if count <= 20 else ("turbo", count)
    dots = axes.scatter(x, y, c=index, cmap=colours, vmin=-0.5, vmax=size - 0.5, s=9, alpha=0.8, linewidths=0)
    if colours != "turbo":
        bar = axes.figure.colorbar(dots, ax=axes, ticks=range(count))
        bar.ax.set_ylim(-0.5, count - 0.5)
        bar.ax.set_yticklabels(names.tolist())
