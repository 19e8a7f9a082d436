"""Introspective training, in which guide and model have different losses."""

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.infer.enum import get_importance_trace
from torch import Tensor
from torch.distributions import constraints

from vampyro.objectives.base import Objective
from vampyro.objectives.elbo import Trace_ELBO
from vampyro.programs.divergence import divergence, with_closed_forms
from vampyro.programs.traces import Sites, kind_of_numbers, sample_sites, trace_of


class Introspective(Objective):
    """Introspective training (IntroVAE, Huang et al. 2018, arXiv:1807.06358), with the losses

        guide:  -ELBO(x) + α Σ_s [m - K(x_s)]₊        model:  -ELBO(x) + α Σ_s K(x_s)

    where K(x) = KL(q(z | x) ‖ p(z)), and x_s are images from the model, as many of each kind as there are images x:
    samples x_p ~ p(x) and, optionally, reconstructions x_r ~ p(x | z), z ~ q(z | x). The guide increases K(x_s) up to
    the margin of m nats, and the model decreases it. So the guide acts as the discriminator of a GAN.

    Gradients: the guide's parameters follow the first loss and the model's the second, in the same step. The model's
    parameters include those of the prior. In K(x_s), p(z) is constant, so the prior is learned from data only, by the
    ELBO. Otherwise the prior would move to where the guide maps the model's samples; and with a VampPrior, whose
    components are posteriors of the guide, the guide could increase K by moving the prior.

    The model's gradient of K(x_s) passes through the images x_s. With a likelihood for 0 and 1, x_s is a sample with
    the gradient of its mean (straight-through, arXiv:1308.3432), because grey means are easy to distinguish from binary
    data. With other likelihoods x_s is the mean of p(x | z). The latents of x_p have a gradient if they are
    reparameterised, as under a flow prior or in a second level, but not in a mixture.

    K is in closed form for each site where that exists, otherwise log q(z | x) - log p(z) for one z. The KL weight
    multiplies the KL of the ELBO and α, so a warm-up applies to both, but not m and K. With α = 0 this is
    `TraceMeanField_ELBO`.

    Args:
        margin: m, nats per image. It must be larger than the KL of the data.
        strength: α.
        reconstructions: whether to include them. If they are as good as the data, the guide cannot increase their KL
            without increasing that of the data.

    Raises:
        ValueError: if the margin is not positive or the strength is negative.

    Each step of `make_update(model, guide, objective=Introspective(40))` returns means over images: `loss`, the -ELBO
    of the data; `kl_data`, `kl_samples` and, if they are included, `kl_reconstructions`; and `below_margin`, the
    proportion of the model's images with K < m.

    >>> from vampyro import assemble; from vampyro.training import make_update
    >>> model, guide = assemble(hidden=(8,), latent=2, shape=(1, 4, 4))
    >>> update = make_update(model, guide, objective=Introspective(40))
    >>> list(update(torch.zeros(5, 1, 4, 4)))
    ['loss', 'kl_data', 'kl_samples', 'below_margin']
    """

    engines = ("eager",)

    def __init__(self, margin: float | int, strength: float | int = 0.25, reconstructions: bool = False):
        if not (margin > 0 and strength >= 0):
            raise ValueError(f"expected a margin above 0 and a strength of 0 or more, got {margin} and {strength}")
        self.margin, self.strength, self.reconstructions = float(margin), float(strength), reconstructions

    def losses(
        self, model: Callable, guide: Callable, still: Callable, x: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Return the losses of guide and model, per image.

        Args:
            model, guide: weighted programs over a batch, `model(x)` and `model(batch=n)`.
            still: the model with constant parameters and without the KL weight, called with a number of images.
            weight: the weight of the KL term.

        Returns:
            the guide's loss, the model's loss, their common part -ELBO(x), and a dictionary of detached metrics.

        Raises:
            ValueError: if a site of the guide is not reparameterised, or if the model observes other sites than x.
        """
        traces = with_closed_forms(*get_importance_trace("flat", 1, model, guide, (x,), {}))
        sites, latents = map(sample_sites, traces)
        check_sites(sites, latents)
        loss = -Trace_ELBO().elbo(sites, latents) / len(x)
        own = own_images(model, sites, latents, len(x), self.reconstructions)
        seen = kl(still, guide, torch.cat(list(own.values())))
        hinge = (self.margin - seen).relu()
        strength = self.strength * weight
        parts = {
            "kl_data": divergence(sites, latents).detach().mean(),
            **{f"kl_{kind}": each.mean() for kind, each in zip(own, seen.detach().split(len(x)))},
            "below_margin": (hinge.detach() > 0).float().mean(),
        }
        return loss + strength * hinge.sum() / len(x), loss + strength * seen.sum() / len(x), loss, parts


def check_sites(sites: Sites, latents: Sites) -> None:
    """Raise a ValueError if the programs cannot be trained introspectively."""
    for name, site in latents.items():
        if not site["fn"].has_rsample:
            raise ValueError(f"introspective training needs reparameterised sites; the guide's {name!r} is not one")
    if len(observed := [name for name, site in sites.items() if site["is_observed"]]) != 1:
        raise ValueError(f"introspective training expects one observed site, the images; the model has {observed}")


def own_images(model: Callable, sites: Sites, latents: Sites, count: int, reconstructions: bool) -> dict[str, Tensor]:
    """Return {kind: (count, …)}, samples and reconstructions, with gradients for the model's parameters only."""
    [name] = [name for name, site in sites.items() if site["is_observed"]]
    programs = {"samples": model}
    if reconstructions:
        codes = {latent: site["value"].detach() for latent, site in latents.items()}
        programs["reconstructions"] = poutine.condition(model, data=codes)
    return {kind: as_image(poutine.trace(p).get_trace(batch=count).nodes[name]) for kind, p in programs.items()}


def as_image(site: Any) -> Tensor:
    """Return a sample with the gradient of the means if pixels are binary, otherwise the means."""
    mean, drawn = site["fn"].mean, kind_of_numbers(site["fn"]) is constraints.boolean
    return site["value"].detach() + (mean - mean.detach()) if drawn else mean


def kl(model: Callable, guide: Callable, x: Tensor) -> Tensor:
    """KL(q(z | x) ‖ p(z)) of each image, (images,). x is not observed, because its density may be undefined."""
    guide_trace = trace_of(guide, x)
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(len(x))
    return divergence(sample_sites(model_trace), sample_sites(guide_trace))
