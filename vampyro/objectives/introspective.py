"""Encoder against decoder: an objective with a loss for each."""

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
    """The guide tells images from the model's own by their KL, which the model then lowers (arXiv:1807.06358).

        guide:  -ELBO(x) + α Σ_s [m - K(x_s)]₊        model:  -ELBO(x) + α Σ_s K(x_s)

    With K(x) = KL(q(z | x) ‖ p(z)), and images s that the model makes, as many of a kind as there are x: samples
    x_p ~ p(x) and, if asked for, reconstructions x_r ~ p(x | z), z ~ q(z | x). The guide pushes their KL up to m nats,
    beyond which it has no more to gain, and the model makes images whose KL is lower. No discriminator is added
    (IntroVAE, Huang et al. 2018, who use both kinds).

    Who trains what: the guide's parameters follow the first loss, the model's the second, at once. The model's include
    the prior's: pseudo-inputs, mixture weights, a flow. In K, p(z) stands still: its density is learned from data, by
    the ELBO's KL. Otherwise a prior would drift to where the guide banishes the model's samples, and, under a
    VampPrior, whose components are the guide's own posteriors, the guide could win by moving the prior.
    The game reaches the model through the images x_s alone. Their pixels, where they can only be 0 and 1, are drawn,
    with the gradient of their means (straight-through, arXiv:1308.3432): beside black and white data, grey means would
    give themselves away. Of other likelihoods x_s is the mean of p(x | z). Latents of x_p carry a gradient where they
    are reparameterised: under a flow as the prior and in a second level, not in a mixture.

    K is in closed form where there is one, and log q(z | x) - log p(z) of one z where there is none, site by site. The
    KL weight multiplies the ELBO's KL and α, so that a ramp brings in the game as it brings in the KL; m and K are
    nats of the whole KL. With α = 0 this is `TraceMeanField_ELBO`.

    Args:
        margin: m, nats per image. It must exceed the KL of data, or nothing is told apart.
        strength: α.
        reconstructions: whether they are in the sums. Where they are as good as data, a guide that pushes them away
            pushes the data too, whose KL rises towards m.

    Raises:
        ValueError: for a margin or a strength that makes no sense.

    Trained by `make_update(model, guide, objective=Introspective(40))`, whose steps return, as means over images:
    `loss`, the -ELBO of data; `kl_data`, `kl_samples`, and `kl_reconstructions` where they play; and `below_margin`,
    the share of the model's images that the guide still pushes away. Where that is 0 the guide has won for now; where
    the KLs are alike, the model.

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
        """What each player minimises, per image.

        Args:
            model, guide: weighted programs over a batch, `model(x)` and `model(batch=n)`.
            still: the model with constants for parameters, unweighted: n → a program's run of n images.
            weight: of the KL term.

        Returns:
            the guide's loss, the model's, their common part -ELBO(x), and a dict of detached parts.

        Raises:
            ValueError: where a site of the guide is not reparameterised, or the model observes more or less than x.
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
    for name, site in latents.items():
        if not site["fn"].has_rsample:
            raise ValueError(f"introspective training needs reparameterised sites; the guide's {name!r} is not one")
    if len(observed := [name for name, site in sites.items() if site["is_observed"]]) != 1:
        raise ValueError(f"introspective training expects one observed site, the images; the model has {observed}")


def own_images(model: Callable, sites: Sites, latents: Sites, count: int, reconstructions: bool) -> dict[str, Tensor]:
    """{kind: (count, …)} of samples, and reconstructions, by the model's parameters; the guide's have no part."""
    [name] = [name for name, site in sites.items() if site["is_observed"]]
    programs = {"samples": model}
    if reconstructions:
        codes = {latent: site["value"].detach() for latent, site in latents.items()}
        programs["reconstructions"] = poutine.condition(model, data=codes)
    return {kind: as_image(poutine.trace(p).get_trace(batch=count).nodes[name]) for kind, p in programs.items()}


def as_image(site: Any) -> Tensor:
    """A draw of pixels 0 and 1, with their means' gradient; of others the means."""
    mean, drawn = site["fn"].mean, kind_of_numbers(site["fn"]) is constraints.boolean
    return site["value"].detach() + (mean - mean.detach()) if drawn else mean


def kl(model: Callable, guide: Callable, x: Tensor) -> Tensor:
    """KL(q(z | x) ‖ p(z)) of each image, without the density of x, which grey means may not have: (images,)."""
    guide_trace = trace_of(guide, x)
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(len(x))
    return divergence(sample_sites(model_trace), sample_sites(guide_trace))
