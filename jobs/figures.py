"""The figures of a run, from the run's model and guide."""

import torch
from pyro import poutine

import plots
from inference import seeded


@torch.no_grad()
def figures(model, guide, images, metrics, film, seed):
    """{file name: Figure}: curves, samples, reconstructions, and pseudo-inputs, last and over epochs."""
    with seeded(seed, device=images.device):
        x = images.images("test")
        x = x[torch.randperm(len(x), device=x.device)[:40]]
        samples = generated(model, 64).mean  # clearer to look at than a draw of every pixel
        rebuilt = reconstruction(model, guide, x).mean
        drawn = {
            "curves.png": plots.training_curves(metrics),
            "samples.png": plots.image_grid(samples, title="means of p(x | z), z ~ p(z)"),
            "reconstructions.png": plots.reconstructions(x, rebuilt),
        }
        if hasattr(model.prior, "pseudo_inputs"):
            u = model.prior.pseudo_inputs()
            u = u[torch.randperm(len(u), device=u.device)[:100]]
            drawn["pseudo_inputs.png"] = plots.image_grid(u, title=f"{len(u)} of the pseudo-inputs")
    if film:
        strip, epochs = torch.cat(list(film.values())).float() / 255, ", ".join(film)
        columns = len(next(iter(film.values())))
        drawn["film.png"] = plots.image_grid(strip, columns, title=f"pseudo-inputs after epoch {epochs}, a row each")
    return drawn


def shoot(film, prior, epoch, frames=12):
    """Adds the first pseudo-inputs after epochs 1, 2, 4, 8, … to `film`, {epoch: bytes (frames, *shape)}."""
    if hasattr(prior, "pseudo_inputs") and epoch & (epoch - 1) == 0:
        film[str(epoch)] = (255 * prior.pseudo_inputs().detach()[:frames]).round().byte().cpu()


def generated(model, count):
    """p(x | z), z ~ p(z)."""
    return poutine.trace(model).get_trace(batch=count).nodes["x"]["fn"]


def reconstruction(model, guide, x):
    """p(x | z), z ~ q(z | x)."""
    trace = poutine.trace(guide).get_trace(x)
    return poutine.trace(poutine.replay(model, trace=trace)).get_trace(x).nodes["x"]["fn"]
