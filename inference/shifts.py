"""Offsets on the parameters of the distributions at a program's sites."""

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch.distributions import transform_to

from inference.evaluation import core, is_delta


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


def _parameters(fn):
    """{name: (value, constraint)} of what a distribution was made from."""
    return {name: (vars(fn)[name], c) for name, c in fn.arg_constraints.items() if name in vars(fn)}


def unconstrained(fn):
    """{parameter: its value in ℝⁿ} of a distribution, under `to_event` and transforms."""
    return {name: transform_to(c).inv(value.detach()) for name, (value, c) in _parameters(core(fn)).items()}


def shifted(fn, offsets):
    """The distribution with each parameter moved by its offset in ℝⁿ."""
    if isinstance(fn, torch.distributions.Independent):
        return shifted(fn.base_dist, offsets).to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, torch.distributions.TransformedDistribution):
        return dist.TransformedDistribution(shifted(fn.base_dist, offsets), fn.transforms)
    moved = {}
    for name, (value, constraint) in _parameters(fn).items():
        to = transform_to(constraint)
        moved[name] = to(to.inv(value) + offsets[name])
    return type(fn)(**moved)
