"""KL(q ‖ p) of latent sites, in closed form if there is one."""

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
    """Replace log p(z) by -KL(q ‖ p) and log q(z) by 0 in the two traces, at each latent of `closed_forms`."""
    sites, latents = sample_sites(model_trace), sample_sites(guide_trace)
    for name, kl in closed_forms(sites, latents).items():
        p, q = sites[name], latents[name]
        kl = scale_and_mask(kl, scale=q["scale"], mask=q["mask"])
        p["log_prob"], p["log_prob_sum"] = -kl, -kl.sum()
        q["log_prob"], q["log_prob_sum"] = torch.zeros_like(kl), kl.new_zeros(())
        q["score_parts"] = q["score_parts"]._replace(entropy_term=0)
    return model_trace, guide_trace


def closed_forms(sites: Sites, latents: Sites) -> dict[str, Tensor]:
    """{name: KL(q ‖ p)} of the latents with a `closed_form` that may replace log q - log p (`downward`)."""
    found = {name: closed_form(latents[name]["fn"], sites[name]["fn"]) for name in downward(sites, latents)}
    return {name: kl for name, kl in found.items() if kl is not None}


def closed_form(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q ‖ p) by torch's rule, or None without a rule and for a Delta, whose `log_density` Pyro's rule ignores.

    >>> from pyro.distributions import Delta, Normal
    >>> closed_form(Normal(1.0, 1.0), Normal(0.0, 1.0)), closed_form(Delta(torch.zeros(())), Normal(0.0, 1.0))
    (tensor(0.5000), None)
    """
    if not is_delta(q):
        with suppress(NotImplementedError):
            return torch.distributions.kl_divergence(q, p)
    return None


def downward(model_names: Iterable[str], guide_names: Iterable[str]) -> list[str]:
    """Select, in the model's order, the latents whose predecessors in the model also precede them in the guide.

    -KL(q(z1 | x) ‖ p(z1 | z2)) is the expectation of log p(z1 | z2) - log q(z1 | x) over z1 for fixed z2. It may
    replace that term only if z2 was not sampled given z1. For a guide q(z1 | x) q(z2 | z1) only z2 is selected.

    >>> downward(["z2", "z1", "x"], ["z2", "z1"]), downward(["z2", "z1", "x"], ["z1", "z2"])
    (['z2', 'z1'], ['z2'])
    """
    place = {name: number for number, name in enumerate(guide_names)}
    names = [name for name in model_names if name in place]
    return [name for i, name in enumerate(names) if all(place[before] < place[name] for before in names[:i])]


def divergence(sites: Sites, latents: Sites) -> Tensor:
    """Σ KL(q ‖ p) over latent sites of two traces, (images,), without scales and masks.

    A latent without closed form counts with log q(z) - log p(z) of its sample.
    """
    closed = closed_forms(sites, latents)
    total: Any = 0.0
    for name, latent in latents.items():
        z = latent["value"]
        total = total + (closed[name] if name in closed else latent["fn"].log_prob(z) - sites[name]["fn"].log_prob(z))
    return total
