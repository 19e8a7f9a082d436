"""What is the same for every way of evaluating a pair of programs without training it."""

import inspect
import math
from contextlib import contextmanager

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import MaskedDistribution
from pyro.distributions.util import scale_and_mask
from torch import Tensor, nn
from torch.distributions import LowRankMultivariateNormal


def check_latents(model_latents, guide_latents):
    """Raises a ValueError that names the latents that only one of the two programs has; both are lists of names."""
    model_latents, guide_latents = set(model_latents), set(guide_latents)
    if model_latents != guide_latents:
        only = "; ".join(
            f"only the {which} has {', '.join(map(repr, sorted(names)))}"
            for which, names in [("model", model_latents - guide_latents), ("guide", guide_latents - model_latents)]
            if names
        )
        raise ValueError(f"model and guide must have the same latent sites: {only}")


def core(fn: torch.distributions.Distribution) -> torch.distributions.Distribution:
    """The distribution at the bottom, under `to_event`, masks and transforms."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn


def is_delta(fn):
    """Whether a distribution is a point, however it is wrapped."""
    return isinstance(core(fn), dist.Delta)


def kind_of_numbers(fn):
    """What a distribution's draws are made of: its support, unwrapped."""
    support = fn.support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support


def check_support(sites, latents=()):
    """Raise a ValueError that names an observed site, not a latent, where the model has no mass on what was observed.

    Bounds that are tensors may depend on the latents, as in Uniform(0, z). There a density of 0 is valid.
    """
    for name, site in sites.items():
        fn, value = site["fn"], site["value"]
        if name in latents or not site["is_observed"] or is_masked(site):
            continue
        kind, outside = kind_of_numbers(fn), ~fn.support.check(value)
        if outside.any() and any(isinstance(bound, Tensor) for bound in vars(kind).values()):
            outside = outside & (fn.log_prob(value) != -math.inf)
        if outside.any():
            raise ValueError(
                f"the model has no mass on these images: its site {name!r} lives on {kind}, and they hold numbers from "
                f"{value.min():g} to {value.max():g}: binarise or rescale them as in training"
            )


def check_event(site):
    """Raises a ValueError that names a site whose value is of another shape than its distribution draws."""
    event, shape = site["fn"].event_shape, site["value"].shape
    if shape[len(shape) - len(event) :] != event:
        raise ValueError(
            f"the site {site['name']!r} was given a value of shape {tuple(shape)}, and its distribution draws "
            f"{tuple(event)}: model and guide must be of one latent size, and networks of the images' shape"
        )


def precise(fn: torch.distributions.Distribution, value: torch.Tensor) -> torch.Tensor:
    """Return a value in float64, for `fn.log_prob`; unchanged where it has matrix products in its own precision."""
    transforms: list = []
    while hasattr(fn, "base_dist"):
        transforms += getattr(fn, "transforms", [])
        fn = fn.base_dist
    parts = [part for transform in transforms for part in getattr(transform, "parts", [transform])]
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


@contextmanager
def evaluation_mode(*programs):
    """Inside, `nn.Module`s among `programs` are in evaluation mode (no dropout); then each part is as it was."""
    parts = [part for program in programs if isinstance(program, nn.Module) for part in program.modules()]
    modes = [part.training for part in parts]
    try:
        for part in parts:
            part.training = False
        yield
    finally:
        for part, mode in zip(parts, modes):
            part.training = mode


@contextmanager
def without_gradients(program):
    """Inside, no parameter of an `nn.Module` asks for its gradient; then each is as it was."""
    parameters = list(program.parameters()) if isinstance(program, nn.Module) else []
    asked = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, ask in zip(parameters, asked):
            parameter.requires_grad_(ask)


@contextmanager
def forwards(changed):
    """Inside, `part.forward` is `wrap(part.forward)` for each (part, wrap); then each is as it was."""
    own = [(part, vars(part).get("forward")) for part, _ in changed]  # None where the class's method serves
    try:
        for part, wrap in changed:
            part.forward = wrap(part.forward)
        yield
    finally:
        for part, forward in own:
            vars(part).pop("forward", None)
            if forward is not None:
                part.forward = forward


@contextmanager
def constant_parts(program):
    """Inside, every part of `program` that is called without arguments (a prior) is computed once.

    Its value depends on parameters alone, and those stand still while a program is scored. A part that
    samples is no such constant and runs every time. A program that is no `nn.Module` has no parts.
    """
    parts = program.modules() if isinstance(program, nn.Module) else []
    parts = [part for part in parts if not inspect.signature(part.forward).parameters]
    with forwards([(part, _once) for part in parts]):
        yield


def _once(forward):
    kept = []

    def call():
        if kept:
            return kept[0]
        trace = poutine.trace(forward).get_trace()
        value = trace.nodes["_RETURN"]["value"]
        if all(site["type"] != "sample" for site in trace.nodes.values()):
            kept.append(value)
        return value

    return call
