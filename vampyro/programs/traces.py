"""Traces of Pyro programs: sample sites, their roles and their log-probabilities."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import MaskedDistribution, Unit
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import prune_subsample_sites, site_is_subsample
from torch import nn
from torch.distributions import (
    ComposeTransform,
    Independent,
    LowRankMultivariateNormal,
    TransformedDistribution,
    constraints,
)

# Distributions of Pyro and torch that wrap another one, their `base_dist`.
WRAPPERS = (
    Independent,
    TransformedDistribution,
    MaskedDistribution,
    dist.ExpandedDistribution,
    dist.ZeroInflatedDistribution,
)
Site = Any  # a node of one of Pyro's traces, a dictionary
Sites = dict[str, Site]  # by name


def trace_of(program: Callable, *inputs: Any) -> poutine.Trace:
    """The program's trace, without the sites of its plates."""
    return prune_subsample_sites(poutine.trace(program).get_trace(*inputs))


def sample_sites(trace: poutine.Trace) -> Sites:
    """{name: site} of a trace's sample sites, without those of subsampled plates."""
    nodes = trace.nodes.items()
    return {name: site for name, site in nodes if site["type"] == "sample" and not site_is_subsample(site)}


def is_auxiliary(site: Site) -> bool:
    """Return whether a guide's site need not be in the model."""
    return bool(site["infer"].get("is_auxiliary"))


def observes(site: Site) -> bool:
    """Return whether a site holds data. Pyro also marks a `deterministic` or a `factor` as observed."""
    return site["is_observed"] and not site["infer"].get("_deterministic") and not isinstance(site["fn"], Unit)


def latents_of(sites: Sites) -> Sites:
    """{name: site} of the sites that model and guide must share: all that are not observed, without `auxiliaries_of`.

    An auxiliary site without a Delta that follows from it counts as a latent. Without its density log q(z | x) is not
    known, and with it the importance weight would be wrong.
    """
    auxiliary = auxiliaries_of(sites)
    return {name: site for name, site in sites.items() if not site["is_observed"] and name not in auxiliary}


def auxiliaries_of(sites: Sites) -> Sites:
    """{name: site} of a guide's auxiliary sites from which Delta sites follow, as in Pyro's autoguides."""
    drawn = {name: site for name, site in sites.items() if not site["is_observed"]}
    if not any(is_delta(site["fn"]) for site in drawn.values()):
        return {}
    return {name: site for name, site in drawn.items() if is_auxiliary(site)}


def core(fn: torch.distributions.Distribution) -> torch.distributions.Distribution:
    """Return the innermost distribution, without `to_event`, masks and transforms."""
    while isinstance(fn, WRAPPERS):
        fn = fn.base_dist
    return fn


def is_delta(fn: torch.distributions.Distribution) -> bool:
    """Return whether a distribution is a Delta, possibly wrapped."""
    return isinstance(core(fn), dist.Delta)


# Constraints that wrap another one, their `base_constraint`; torch 2.6 has none for mixtures.
CONSTRAINT_WRAPPERS = (constraints.independent, *filter(None, [vars(constraints).get("MixtureSameFamilyConstraint")]))


def kind_of_numbers(fn: torch.distributions.Distribution) -> Any:
    """Return the constraint on each element of a distribution's samples: its support, unwrapped."""
    support = fn.support
    while isinstance(support, CONSTRAINT_WRAPPERS):
        support = support.base_constraint
    return support


def to_precise(fn: Any, value: torch.Tensor) -> torch.Tensor:
    """Return a value in float64 for `fn.log_prob`, or unchanged if `fn` has matrix products in its own precision."""
    transforms: list = []
    while isinstance(fn, WRAPPERS):
        transforms += fn.transforms if isinstance(fn, TransformedDistribution) else []
        fn = fn.base_dist
    parts = [part for t in transforms for part in (t.parts if isinstance(t, ComposeTransform) else [t])]
    own = nn.Module, LowRankMultivariateNormal
    return value if any(isinstance(part, own) for part in (fn, *parts)) else value.double()


def log_prob_of(site: Site, with_mask: bool = True) -> torch.Tensor:
    """Return a site's log-probabilities without its scale (a plate's N/B), and by default with its mask."""
    if with_mask:
        return apply_mask(site["unscaled_log_prob"], site)
    fn = site["fn"]
    return fn.base_dist.log_prob(site["value"]) if isinstance(fn, MaskedDistribution) else site["unscaled_log_prob"]


def apply_mask(term: torch.Tensor, site: Site, dims: int = 0) -> torch.Tensor:
    """Set a term, which has `dims` event dimensions, to zero where the site is masked."""
    mask = site["mask"]
    if isinstance(mask, torch.Tensor):
        mask = mask.reshape(tuple(mask.shape) + (1,) * dims)
    return scale_and_mask(term, mask=mask)


def is_masked(site: Site) -> bool:
    """Return whether a site has a mask, from `poutine.mask` or from its distribution's `mask`."""
    return site["mask"] is not None or isinstance(site["fn"], MaskedDistribution)
