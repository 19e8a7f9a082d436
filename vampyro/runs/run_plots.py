"""The plots of a run, as files and for TensorBoard."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from pyro import poutine
from torch import Tensor, nn

from vampyro import plots
from vampyro.data.image_set import ImageSet
from vampyro.distributions import LabelledImages
from vampyro.priors import Prior
from vampyro.programs.modes import evaluation_mode
from vampyro.programs.randomness import seeded

ROWS = 20  # maximum number of rows, if each class has one


@torch.no_grad()
def figures(
    model: Any,
    guide: nn.Module,
    images: ImageSet,
    metrics: list[dict[str, Any]],
    film: dict[str, Tensor],
    seed: int,
) -> dict[str, Figure]:
    """Return {file name: Figure}: curves, samples, reconstructions, and the pseudo-inputs at the end and over epochs.

    For a conditional run, each row of samples has one class, and a plot of analogies is added.
    """
    with seeded(seed, device=images.device), evaluation_mode(model, guide):
        x = images.images("test")
        x = x[torch.randperm(len(x), device=x.device)[:40]]
        drawn = {
            "curves.png": plots.training_curves(metrics),
            "samples.png": sample_grid(model, images.classes),
            "reconstructions.png": plots.reconstructions(images.pictures(x), reconstruction(model, guide, x).mean),
        }
        if images.classes is not None:
            drawn["analogies.png"] = analogies(model, guide, images, x[:10])
        if (u := pseudo_inputs(model.prior)) is not None:
            u = u[torch.randperm(len(u), device=u.device)[:100]]
            captions = None if images.classes is None else u[:, -images.classes :].argmax(1).tolist()
            title = f"{len(u)} pseudo-inputs" + ("" if captions is None else ", with their likeliest labels")
            drawn["pseudo_inputs.png"] = plots.image_grid(images.pictures(u), title=title, captions=captions)
    if film:
        strip, epochs = images.pictures(torch.cat(list(film.values())).float() / 255), ", ".join(film)
        columns = len(next(iter(film.values())))
        drawn["film.png"] = plots.image_grid(strip, columns, title=f"pseudo-inputs after epoch {epochs}, a row each")
    return drawn


@torch.no_grad()
def sample_grid(model: nn.Module, classes: int | None = None) -> Figure:
    """Plot the means p(x | z) of 64 samples of z; for a conditional model ten of each class."""
    if classes is None:
        return plots.image_grid(generate(model, 64).mean, title="means of p(x | z), z ~ p(z)")
    y = torch.arange(min(classes, ROWS)).repeat_interleave(10)
    return plots.image_grid(generate(model, len(y), y).mean, 10, "means of p(x | z, y), a row for each y")


def shoot(film: dict[str, Tensor], prior: Any, epoch: int, frames: int = 12) -> None:
    """Add the first pseudo-inputs after epochs 1, 2, 4, 8, … to `film`, {epoch: bytes (frames, *shape)}."""
    if epoch & (epoch - 1) == 0 and (u := pseudo_inputs(prior)) is not None:
        film[str(epoch)] = (255 * u.detach()[:frames]).round().byte().cpu()


def pseudo_inputs(prior: nn.Module) -> Tensor | None:
    """Return the pseudo-inputs of a prior, or None; any module can be a prior."""
    return prior.pseudo_inputs() if isinstance(prior, Prior) else None


def analogies(model: Any, guide: nn.Module, images: ImageSet, x: Tensor) -> Figure:
    """Plot each image, and next to it p(x | z, y) for every y with the same z ~ q(z | x)."""
    p: Any = reconstruct(model, guide, x)
    rows = [images.pictures(x), *(p.given(y).mean for y in range(min(images.classes or 0, ROWS)))]
    title = "left: x; then the means of p(x | z, y) for each y, z inferred from x and its own label"
    return plots.image_grid(torch.stack(rows, 1).flatten(0, 1), len(rows), title)


def generate(model: nn.Module, count: int, y: Tensor | None = None) -> Any:
    """Return p(x | z), z ~ p(z); for a conditional model p(x | z, y) with labels y, (count,)."""
    p: Any = poutine.trace(model).get_trace(batch=count).nodes["x"]["fn"]
    return p if y is None else p.given(y)


def reconstruction(model: nn.Module, guide: nn.Module, x: Tensor) -> Any:
    """Return p(x | z), z ~ q(z | x); for a conditional model p(x | z, y) with the label y of x."""
    p = reconstruct(model, guide, x)
    return p.of(x) if isinstance(p, LabelledImages) else p


def reconstruct(model: nn.Module, guide: nn.Module, x: Tensor) -> Any:
    """Return p(x | z), z ~ q(z | x)."""
    trace = poutine.trace(guide).get_trace(x)
    return poutine.trace(poutine.replay(model, trace=trace)).get_trace(x).nodes["x"]["fn"]


AXES = {"loss": "training", "seconds": "training"}  # all others are of the validation images


class Board:
    """Write the metrics of every epoch, the figures, the settings and the results for TensorBoard to DIR/tensorboard.

    When a run is resumed, the metrics of all earlier epochs are written again and replace the earlier events, so no
    epoch appears twice or is missing. Without a `path` nothing is written.
    """

    def __init__(self, path: Path | None = None, metrics: Iterable[dict[str, Any]] = ()) -> None:
        self.writer: Any = None
        if path is not None:
            from torch.utils.tensorboard import SummaryWriter  # an optional package that takes seconds to import

            self.writer = SummaryWriter(str(path / "tensorboard"), purge_step=1)
            for line in metrics:
                self.epoch(line)

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Write the metrics of one epoch."""
        if self.writer is not None:
            for name, value in metrics.items():
                if name != "epoch":
                    self.writer.add_scalar(f"{AXES.get(name, 'validation')}/{name}", value, metrics["epoch"])
            self.writer.flush()

    def end(self, epoch: int, pictures: dict[str, Figure], config: Mapping[str, Any], results: dict[str, Any]) -> None:
        """Write figures by file name, and the settings with their results."""
        if self.writer is not None:
            for name, figure in pictures.items():
                self.writer.add_figure(name.removesuffix(".png"), figure, epoch, close=False)
            settings = {
                name: value if isinstance(value, (bool, int, float)) else str(value) for name, value in config.items()
            }
            figures = {f"test/{name}": value for name, value in results.items() if isinstance(value, (int, float))}
            self.writer.add_hparams(settings, figures, run_name=".", global_step=epoch)
            self.writer.close()
