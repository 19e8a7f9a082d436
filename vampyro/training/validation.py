"""Validation metrics: the ELBO and its parts, in nats per image."""

from typing import Any

import pyro
import pyro.infer
import torch
from jaxtyping import Float
from pyro.infer.enum import get_importance_trace
from torch import Tensor

from vampyro.programs.checks import check_images, check_latents, check_roles, check_support
from vampyro.programs.layout import arrange, check_density, check_own, points_of, some_images
from vampyro.programs.modes import evaluation_mode
from vampyro.programs.traces import latents_of, log_prob_of, sample_sites


def elbo_parts(
    model: Any, guide: Any, images: Float[Tensor, " images *event"], batch_size: int = 500
) -> dict[str, float]:
    """Estimate ELBO = E_q[log p(x | z)] - E_q[log q(z | x) - log p(z)] with one sample of z per image.

    The KL term has weight 1, also if training uses another weight. Modules are in evaluation mode.

    Args:
        images: (N, channels, height, width), as the model receives them.

    Returns:
        `elbo`, `reconstruction` and `kl` in nats per image.

    Raises:
        ValueError: there are no images, the model has no mass on them, model and guide have different latent sites,
            or the guide is a Delta distribution, for which there is no ELBO (use `validation`).
    """
    reconstruction, kl = terms(model, guide, images, batch_size, points=False)
    return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}


@torch.no_grad()
def terms(model: Any, guide: Any, images: Any, batch_size: int = 500, points: bool = True) -> tuple[float, float]:
    """Return the means over images of log p(x | z) and of log q(z | x) - log p(z).

    Args:
        points: whether the guide may be a Delta distribution.
    """
    check_images(images, model, guide)
    reconstruction: Tensor | float = 0.0
    kl: Tensor | float = 0.0
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
                log_p = log_prob_of(site).sum().double()
                if site["is_observed"]:
                    reconstruction = reconstruction + log_p
                else:
                    kl = kl - log_p
            kl = kl + sum(log_prob_of(site).sum().double() for site in proposed.values())
    return float(reconstruction) / len(images), float(kl) / len(images)


def validation(
    model: Any, guide: Any, images: Float[Tensor, " images *event"], weight: float = 1.0
) -> dict[str, float]:
    """Return validation metrics in nats per image. The first one is maximised.

    For a guide with a density these are `elbo`, `reconstruction` and `kl` of `elbo_parts`. A Delta guide has no ELBO.
    Its metrics are `objective` = `reconstruction` + weight · `log_prior`, where the last two are log p(x | z) and
    log p(z) at the code z.

    Args:
        images: (N, channels, height, width), as the model receives them.
        weight: the KL weight β.

    >>> from vampyro import assemble
    >>> list(validation(*assemble(posterior="delta", hidden=(8,), latent=2, shape=(1, 4, 4)), torch.zeros(5, 1, 4, 4)))
    ['objective', 'reconstruction', 'log_prior']
    """
    check_images(images, model, guide)
    if not points_of(guide, some_images(images, guide)):
        return elbo_parts(model, guide, images)
    reconstruction, minus_log_prior = terms(model, guide, images)  # log q = 0 for a Delta guide
    log_prior = -minus_log_prior
    return {"objective": reconstruction + weight * log_prior, "reconstruction": reconstruction, "log_prior": log_prior}
