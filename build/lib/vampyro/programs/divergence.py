"""KL(q ‖ p) of latent sites, in closed form where there is one."""

from contextlib import suppress

import torch
from pyro.distributions.util import scale_and_mask

from vampyro.programs.traces import is_delta, sample_sites


def with_closed_forms(model_trace, guide_trace):
    """The two traces with -KL(q ‖ p) in place of log p(z), and 0 of log q(z), at each latent whose KL torch knows."""
    sites, latents = sample_sites(model_trace), sample_sites(guide_trace)
    for name, kl in closed_forms(sites, latents).items():
        p, q = sites[name], latents[name]
        kl = scale_and_mask(kl, scale=q["scale"], mask=q["mask"])
        p["log_prob"], p["log_prob_sum"] = -kl, -kl.sum()
        q["log_prob"], q["log_prob_sum"] = torch.zeros_like(kl), kl.new_zeros(())
        q["score_parts"] = q["score_parts"]._replace(entropy_term=0)
    return model_trace, guide_trace


def closed_forms(sites, latents):
    """{name: KL(q ‖ p)} of the latents whose KL torch knows and where it may stand for log q - log p (`downward`)."""
    found = {}
    for name in downward(sites, latents):
        if is_delta(latents[name]["fn"]):  # Pyro's rule for a Delta knows nothing of its log_density
            continue
        with suppress(NotImplementedError):
            found[name] = torch.distributions.kl_divergence(latents[name]["fn"], sites[name]["fn"])
    return found


def downward(model_names, guide_names):
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


def divergence(sites, latents):
    """Σ KL over latent sites of two traces, unweighted: (images,)."""
    total, known = 0.0, closed_forms(sites, latents)
    for name, site in latents.items():
        q, p, z = site["fn"], sites[name]["fn"], site["value"]
        total = total + (known[name] if name in known else q.log_prob(z) - p.log_prob(z))
    return total
