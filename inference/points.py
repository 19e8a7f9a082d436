"""Guides whose latents are points: an auto-encoder's codes."""

import pyro
import torch
from jaxtyping import Float
from torch import Tensor

from inference.elbo import elbo_parts, terms
from inference.evaluation import is_delta
from inference.images import check_images
from inference.joint import traced
from inference.rng import same_noise
from inference.sites import auxiliaries_of, latents_of, layout_of, points_among, sample_sites, some_images, trace_of


@torch.no_grad()
def points_of(guide, images: Float[Tensor, " images *event"]):
    """{site: (N, *event)}, the guide's latents that are points; {} for a guide with a density.

    >>> from assemble import assemble
    >>> model, guide = assemble(posterior="delta", hidden=(8,), latent=2, shape=(1, 4, 4))
    >>> points_of(guide, torch.zeros(5, 1, 4, 4))["z"].shape
    torch.Size([5, 2])
    """
    check_images(images, guide)
    with same_noise(images.device), pyro.validation_enabled(False):
        sites = sample_sites(trace_of(guide, images))
        deltas = {name: site["value"] for name, site in latents_of(sites).items() if is_delta(site["fn"])}
        if deltas and auxiliaries_of(sites):  # a point is the same in two samples
            twice = sample_sites(traced(guide, 2, images, layout=layout_of(images, guide, check=False)))
            deltas = {name: deltas[name] for name in points_among(twice)}
    return deltas


def validation(model, guide, images: Float[Tensor, " images *event"], weight=1.0):
    """What an epoch has come to, nats per image; the first of the figures is to rise.

    With a density `elbo_parts`: `elbo`, `reconstruction`, `kl`. Of points there is no ELBO, so nothing bounds
    log p(x), and what rises is what is trained: `objective` = `reconstruction` + weight · `log_prior`, log p(x | z) and
    log p(z) at the points.

    Args:
        images: (N, channels, height, width), as the model should see them.
        weight: β.

    >>> from assemble import assemble
    >>> list(validation(*assemble(posterior="delta", hidden=(8,), latent=2, shape=(1, 4, 4)), torch.zeros(5, 1, 4, 4)))
    ['objective', 'reconstruction', 'log_prior']
    """
    check_images(images, model, guide)
    if not points_of(guide, some_images(images, guide)):
        return elbo_parts(model, guide, images)
    reconstruction, minus_log_prior = terms(model, guide, images)  # log q is 0 at a point
    log_prior = -minus_log_prior
    return {"objective": reconstruction + weight * log_prior, "reconstruction": reconstruction, "log_prior": log_prior}
