"""Offsets on the parameters of the distributions at a program's sites."""

import inspect
from contextlib import suppress

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch.distributions import transform_to

from inference.evaluation import is_delta


class Shifts(Messenger):
    """Around a guide: adds an offset to each parameter of the distributions at its sites, in unconstrained numbers.

    Args:
        sites: {name: distribution}, as the guide has them.

    `offsets`: {(name, parameter): tensor}, zero at first. Then the distributions are the guide's own.

    >>> shifts = Shifts({"z": dist.Normal(torch.zeros(5, 2), 1.0).to_event(1)})
    >>> {key: tuple(offset.shape) for key, offset in shifts.offsets.items()}
    {('z', 'loc'): (5, 2), ('z', 'scale'): (5, 2)}
    """

    def __init__(self, sites):
        super().__init__()
        self.offsets = {
            (name, parameter): torch.zeros_like(free).requires_grad_()
            for name, fn in sites.items()
            if not is_delta(fn)
            for parameter, free in unconstrained(fn).items()
        }

    def _pyro_sample(self, msg):
        own = {parameter: offset for (name, parameter), offset in self.offsets.items() if name == msg["name"]}
        if own:
            msg["fn"] = shifted(msg["fn"], own)


def unconstrained(fn):
    """Return {parameter: its value in ℝⁿ} of a distribution, under `to_event`, masks and transforms."""
    while _wraps(fn):
        fn = fn.base_dist
    return {name: to.inv(value.detach()) for name, value in _arguments(fn).items() if (to := _bijection(fn, name))}


def shifted(fn, offsets):
    """Return the distribution with each parameter moved by its offset in ℝⁿ."""
    if _wraps(fn):
        base = shifted(fn.base_dist, offsets)
        if isinstance(fn, torch.distributions.Independent):
            return base.to_event(fn.reinterpreted_batch_ndims)
        if isinstance(fn, dist.MaskedDistribution):
            return base.mask(fn._mask)
        return dist.TransformedDistribution(base, fn.transforms)
    arguments = _arguments(fn)
    for name, offset in offsets.items():
        to = _bijection(fn, name)
        arguments[name] = to(to.inv(arguments[name]) + offset)
    return type(fn)(**arguments)


def _wraps(fn):
    """Whether the parameters are those of `base_dist`. A LogNormal has its own, although it has a `base_dist` too."""
    return hasattr(fn, "base_dist") and not fn.arg_constraints


def _arguments(fn):
    """Return {name: value} of what makes this distribution.

    Arguments that are None by default (`probs` and `logits`) are alternatives: the last is taken.
    """
    names, alternatives = [], []
    for name, parameter in inspect.signature(type(fn).__init__).parameters.items():
        if hasattr(fn, name):
            (alternatives if parameter.default is None else names).append(name)
    return {name: getattr(fn, name) for name in names + alternatives[-1:]}


def _bijection(fn, name):
    """Return torch's bijection from ℝⁿ to a parameter's values, or None where there is none."""
    with suppress(NotImplementedError, KeyError):
        return transform_to(fn.arg_constraints[name])
    return None
