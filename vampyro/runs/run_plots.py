"""The figures of a run, from the run's model and guide."""

import torch
from pyro import poutine
from torch import nn

from vampyro import plots
from vampyro.distributions import LabelledImages
from vampyro.priors import Prior
from vampyro.programs.modes import evaluation_mode
from vampyro.programs.randomness import seeded

ROWS = 20  # at most, where each class has one


@torch.no_grad()
def figures(model, guide, images, metrics, film, seed):
    """{file name: Figure}: curves, samples, reconstructions, and pseudo-inputs, last and over epochs.

    Of a conditional run samples come in rows of one class, and beside images stand analogies.
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
def sample_grid(model, classes=None):
    """Sixty-four means, clearer to look at than a draw of every pixel; of a conditional model ten of each class."""
    if classes is None:
        return plots.image_grid(generated(model, 64).mean, title="means of p(x | z), z ~ p(z)")
    y = torch.arange(min(classes, ROWS)).repeat_interleave(10)
    return plots.image_grid(generated(model, len(y), y).mean, 10, "means of p(x | z, y), a row for each y")


def shoot(film, prior, epoch, frames=12):
    """Adds the first pseudo-inputs after epochs 1, 2, 4, 8, … to `film`, {epoch: bytes (frames, *shape)}."""
    if epoch & (epoch - 1) == 0 and (u := pseudo_inputs(prior)) is not None:
        film[str(epoch)] = (255 * u.detach()[:frames]).round().byte().cpu()


def pseudo_inputs(prior: nn.Module) -> torch.Tensor | None:
    """The images that a prior is made of, or None; any module may be a prior."""
    return prior.pseudo_inputs() if isinstance(prior, Prior) else None


def analogies(model, guide, images, x):
    """Each image, and to its right p(x | z, y) for every y, z inferred from it once: what z keeps when y changes."""
    p = decoded(model, guide, x)
    rows = [images.pictures(x), *(p.given(y).mean for y in range(min(images.classes, ROWS)))]
    title = "left: x; then the means of p(x | z, y) for each y, z inferred from x and its own label"
    return plots.image_grid(torch.stack(rows, 1).flatten(0, 1), len(rows), title)


def generated(model, count, y=None):
    """p(x | z), z ~ p(z); of a conditional model p(x | z, y) for the labels y, (count,)."""
    p = poutine.trace(model).get_trace(batch=count).nodes["x"]["fn"]
    return p if y is None else p.given(y)


def reconstruction(model, guide, x):
    """p(x | z), z ~ q(z | x); of a conditional model p(x | z, y), y being x's own label."""
    p = decoded(model, guide, x)
    return p.of(x) if isinstance(p, LabelledImages) else p


def decoded(model, guide, x):
    """What the model makes of z ~ q(z | x)."""
    trace = poutine.trace(guide).get_trace(x)
    return poutine.trace(poutine.replay(model, trace=trace)).get_trace(x).nodes["x"]["fn"]
