"""Validation metrics: the ELBO and its parts, in nats per image."""

import pyro
import pyro.infer
import torch
from jaxtyping import Float
from pyro.infer.enum import get_importance_trace
from torch import Tensor

from vampyro.programs.checks import check_images, check_latents, check_roles, check_support
from vampyro.programs.layout import arrange, check_density, check_own, points_of, some_images
from vampyro.programs.modes import evaluation_mode
from vampyro.programs.traces import latents_of, sample_sites, unscaled


def elbo_parts(model, guide, images: Float[Tensor, " images *event"], batch_size=500):
    """ELBO = E_q[log p(x | z)] - E_q[log q(z | x) - log p(z)], one sample of z for each image.

    The KL term always has its full weight, whatever the training's, and modules are in evaluation mode.

    Args:
        images: (N, channels, height, width), as the model should see them.

    Returns:
        dict of floats, nats per image: `elbo`, `reconstruction`, `kl`.

    Raises:
        ValueError: where there are no images, the model has no mass on them, model and guide do not have the same
            latent sites, or those are points, whose objective bounds nothing: see `validation`.
    """
    reconstruction, kl = terms(model, guide, images, batch_size, points=False)
    return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}


@torch.no_grad()
def terms(model, guide, images, batch_size=500, points=True):
    """log p(x | z) and log q(z | x) - log p(z), floats, means over images; `points`: whether latents may be such."""
    check_images(images, model, guide)
    reconstruction = kl = 0.0
    with evaluation_mode(model, guide), pyro.validation_enabled(False):
        blocks, layout = arrange(images, batch_size, model, guide)
        for x in blocks:
            traces = get_importance_trace("flat", layout.rank, model, guide, (x,), {})
            sites, proposed = map(sample_sites, traces)
            latents = latents_of(proposed)
            if not points:
                check_density(guide, x, latents)
            check_latents(latents_of(sites), latents)
            check_roles(sites, latents)
            check_support(sites)
            for found in (sites, proposed):
                check_own(found, len(x), layout)
            for site in sites.values():
                log_p = unscaled(site).sum().double()
                if site["is_observed"]:
                    reconstruction = reconstruction + log_p
                else:
                    kl = kl - log_p
            kl = kl + sum(unscaled(site).sum().double() for site in proposed.values())
    return float(reconstruction) / len(images), float(kl) / len(images)


def validation(model, guide, images: Float[Tensor, " images *event"], weight=1.0):
    """What an epoch has come to, nats per image; the first of the figures is to rise.

    With a density `elbo_parts`: `elbo`, `reconstruction`, `kl`. Of points there is no ELBO, so nothing bounds
    log p(x), and what rises is what is trained: `objective` = `reconstruction` + weight · `log_prior`, log p(x | z) and
    log p(z) at the points.

    Args:
        images: (N, channels, height, width), as the model should see them.
        weight: β.

    >>> from vampyro import assemble
    >>> list(validation(*assemble(posterior="delta", hidden=(8,), latent=2, shape=(1, 4, 4)), torch.zeros(5, 1, 4, 4)))
    ['objective', 'reconstruction', 'log_prior']
    """
    check_images(images, model, guide)
    if not points_of(guide, some_images(images, guide)):
        return elbo_parts(model, guide, images)
    reconstruction, minus_log_prior = terms(model, guide, images)  # log q is 0 at a point
    log_prior = -minus_log_prior
    return {"objective": reconstruction + weight * log_prior, "reconstruction": reconstruction, "log_prior": log_prior}
