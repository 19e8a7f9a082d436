"""Traces of Pyro programs: their sample sites, the roles of these, and their log-probabilities."""

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

# Pyro's and torch's distributions around another, their `base_dist`.
WRAPPERS = (
    Independent,
    TransformedDistribution,
    MaskedDistribution,
    dist.ExpandedDistribution,
    dist.ZeroInflatedDistribution,
)
Sites = dict[str, Any]  # nodes of Pyro's traces, by name


def trace_of(program: Callable, *inputs) -> poutine.Trace:
    """The program's trace, without the sites of its plates."""
    return prune_subsample_sites(poutine.trace(program).get_trace(*inputs))


def sample_sites(trace: poutine.Trace) -> Sites:
    """{name: site} of a trace's sample sites; those of subsampled plates are not among them."""
    nodes = trace.nodes.items()
    return {name: site for name, site in nodes if site["type"] == "sample" and not site_is_subsample(site)}


def is_auxiliary(site) -> bool:
    """Return whether a guide's site is one that the model need not have."""
    return bool(site["infer"].get("is_auxiliary"))


def observes(site) -> bool:
    """Return whether a site stands for data. Pyro also calls a `deterministic` or a `factor` observed."""
    return site["is_observed"] and not site["infer"].get("_deterministic") and not isinstance(site["fn"], Unit)


def latents_of(sites: Sites) -> Sites:
    """{name: site} of the sites that model and guide must share: neither observed nor auxiliary.

    An auxiliary site counts as a latent where no Delta follows from it: its own density would then not belong in the
    importance weight, and without it log q(z | x) is not known.
    """
    auxiliary = auxiliaries_of(sites)
    return {name: site for name, site in sites.items() if not site["is_observed"] and name not in auxiliary}


def auxiliaries_of(sites: Sites) -> Sites:
    """{name: site} of a guide's auxiliary sites from which Delta sites follow, as in Pyro's autoguides."""
    drawn = {name: site for name, site in sites.items() if not site["is_observed"]}
    if not any(is_delta(site["fn"]) for site in drawn.values()):
        return {}
    return {name: site for name, site in drawn.items() if is_auxiliary(site)}


def points_among(sites: Sites) -> list[str]:
    """Names of the latents at which a guide, traced with at least two samples in front, has no density.

    A Delta is a point unless it follows an auxiliary site, whose samples differ: its density is then that of the
    auxiliary site times the Delta's own `log_density`.
    """
    deltas = {name: site["value"] for name, site in latents_of(sites).items() if is_delta(site["fn"])}
    if not auxiliaries_of(sites):
        return list(deltas)
    return [name for name, value in deltas.items() if (value == value[:1]).all()]


def core(fn: torch.distributions.Distribution) -> torch.distributions.Distribution:
    """The distribution at the bottom, under `to_event`, masks and transforms."""
    while isinstance(fn, WRAPPERS):
        fn = fn.base_dist
    return fn


def is_delta(fn):
    """Whether a distribution is a point, however it is wrapped."""
    return isinstance(core(fn), dist.Delta)


# Constraints around another, their `base_constraint`; torch 2.6 has none of its own for mixtures.
CONSTRAINT_WRAPPERS = (constraints.independent, *filter(None, [vars(constraints).get("MixtureSameFamilyConstraint")]))


def kind_of_numbers(fn):
    """What a distribution's draws are made of: its support, unwrapped."""
    support = fn.support
    while isinstance(support, CONSTRAINT_WRAPPERS):
        support = support.base_constraint
    return support


def precise(fn: torch.distributions.Distribution, value: torch.Tensor) -> torch.Tensor:
    """Return a value in float64, for `fn.log_prob`; unchanged where it has matrix products in its own precision."""
    transforms: list = []
    while isinstance(fn, WRAPPERS):
        transforms += fn.transforms if isinstance(fn, TransformedDistribution) else []
        fn = fn.base_dist
    parts = [part for t in transforms for part in (t.parts if isinstance(t, ComposeTransform) else [t])]
    own = nn.Module, LowRankMultivariateNormal
    return value if any(isinstance(part, own) for part in (fn, *parts)) else value.double()


def unscaled(site, with_mask=True):
    """Return a site's log-probabilities without its scale (a plate's N/B), which is for training alone.

    Where the program masks the site they are 0, unless `with_mask` is False.
    """
    if with_mask:
        return masked(site["unscaled_log_prob"], site)
    fn = site["fn"]
    return fn.base_dist.log_prob(site["value"]) if isinstance(fn, MaskedDistribution) else site["unscaled_log_prob"]


def masked(term, site, dims=0):
    """A term, with `dims` dimensions of the event, that is zero where the site is masked."""
    mask = site["mask"]
    if isinstance(mask, torch.Tensor):
        mask = mask.reshape(tuple(mask.shape) + (1,) * dims)
    return scale_and_mask(term, mask=mask)


def is_masked(site):
    """Return whether a site has a mask, from `poutine.mask` or from its distribution's `mask`."""
    return site["mask"] is not None or isinstance(site["fn"], MaskedDistribution)
