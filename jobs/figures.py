"""The figures of a run, from the run's model and guide."""

import torch
from pyro import poutine

import plots
from inference import seeded


@torch.no_grad()
def figures(model, guide, images, metrics, seed):
    """{file name: Figure}: curves, samples, reconstructions, and pseudo-inputs where the prior has some."""
    with seeded(seed, device=images.device):
        x = images.images("test")
        x = x[torch.randperm(len(x), device=x.device)[:40]]
        samples = _means(poutine.trace(model).get_trace(batch=64))
        guide_trace = poutine.trace(guide).get_trace(x)
        rebuilt = _means(poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(x))
        drawn = {
            "curves.png": plots.training_curves(metrics),
            "samples.png": plots.image_grid(samples, title="means of p(x | z), z ~ p(z)"),
            "reconstructions.png": plots.reconstructions(x, rebuilt),
        }
        if hasattr(model.prior, "pseudo_inputs"):
            u = model.prior.pseudo_inputs()
            u = u[torch.randperm(len(u), device=u.device)[:100]]
            drawn["pseudo_inputs.png"] = plots.image_grid(u, title=f"{len(u)} of the pseudo-inputs")
    return drawn


def _means(trace):
    """E[x | z] for the trace's z: clearer to look at than a draw of every pixel."""
    return trace.nodes["x"]["fn"].mean
