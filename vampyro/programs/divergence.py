"""KL(q ‖ p) of latent sites, in closed form where there is one."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution

from vampyro.programs.traces import Sites, is_delta, sample_sites


def with_closed_forms(model_trace: Trace, guide_trace: Trace) -> tuple[Trace, Trace]:
    """The two traces with -KL(q ‖ p) in place of log p(z), and 0 of log q(z), at each latent whose KL torch knows."""
    sites, latents = sample_sites(model_trace), sample_sites(guide_trace)
    for name, kl in closed_forms(sites, latents).items():
        p, q = sites[name], latents[name]
        kl = scale_and_mask(kl, scale=q["scale"], mask=q["mask"])
        p["log_prob"], p["log_prob_sum"] = -kl, -kl.sum()
        q["log_prob"], q["log_prob_sum"] = torch.zeros_like(kl), kl.new_zeros(())
        q["score_parts"] = q["score_parts"]._replace(entropy_term=0)
    return model_trace, guide_trace


def closed_forms(sites: Sites, latents: Sites) -> dict[str, Tensor]:
    """{name: KL(q ‖ p)} of the latents whose KL torch knows and where it may stand for log q - log p (`downward`)."""
    found = {name: closed_form(latents[name]["fn"], sites[name]["fn"]) for name in downward(sites, latents)}
    return {name: kl for name, kl in found.items() if kl is not None}


def closed_form(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q ‖ p) by torch's rule for the two, or None: there is none, or q is a Delta, whose log_density Pyro's forgets.

    >>> from pyro.distributions import Delta, Normal
    >>> closed_form(Normal(1.0, 1.0), Normal(0.0, 1.0)), closed_form(Delta(torch.zeros(())), Normal(0.0, 1.0))
    (tensor(0.5000), None)
    """
    if not is_delta(q):
        with suppress(NotImplementedError):
            return torch.distributions.kl_divergence(q, p)
    return None


def kl_or_draw(latent: dict[str, Any], site: dict[str, Any], closed: bool = True) -> Tensor:
    """KL(q ‖ p) of a guide's latent and the model's site: by `closed_form`, else log q(z) - log p(z) of its draw z.

    Without scale and mask. `closed` is False where the latent is not among `downward`'s.
    """
    q, p, z = latent["fn"], site["fn"], latent["value"]
    kl = closed_form(q, p) if closed else None
    return q.log_prob(z) - p.log_prob(z) if kl is None else kl


def downward(model_names: Iterable[str], guide_names: Iterable[str]) -> list[str]:
    """Of the names in both, in the model's order, those before which the guide has all that the model has before them.

    log p(z1 | z2) - log q(z1 | x) may give way to -KL(q(z1 | x) ‖ p(z1 | z2)), its expectation over z1 at a given z2,
    only where z2 was not drawn from that z1: of a guide that draws upward, q(z1 | x) q(z2 | z1), z2 alone is left.

    >>> downward(["z2", "z1", "x"], ["z2", "z1"]), downward(["z2", "z1", "x"], ["z1", "z2"])
    (['z2', 'z1'], ['z2'])
    """
    place = {name: number for number, name in enumerate(guide_names)}
    found, last = [], -1
    for name in model_names:
        if name in place:
            if place[name] > last:
                found.append(name)
            last = max(last, place[name])
    return found


def divergence(sites: Sites, latents: Sites) -> Tensor:
    """Σ KL over latent sites of two traces, unweighted: (images,)."""
    replaceable = downward(sites, latents)
    total: Any = 0.0
    for name, site in latents.items():
        total = total + kl_or_draw(site, sites[name], name in replaceable)
    return total
