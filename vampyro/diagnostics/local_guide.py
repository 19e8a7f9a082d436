"""A guide with an offset for each image on the outputs of its networks."""

import inspect
from collections.abc import Callable
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import transform_to
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._pytree import tree_flatten, tree_unflatten

from vampyro.programs.traces import WRAPPERS, is_delta, sample_sites, trace_of


class _Shifts(Messenger):
    """Adds offsets, {site: {parameter: tensor}}, to the unconstrained parameters of the distributions at sites."""

    def __init__(self, offsets):
        super().__init__()
        self.offsets = offsets

    def _pyro_sample(self, msg):
        if offsets := self.offsets.get(msg["name"]):
            msg["fn"] = shift(msg["fn"], offsets)


def free_parameters(fn: Any) -> dict[str, Tensor]:
    """Return {parameter: its value in ℝⁿ} of a distribution, under `to_event`, masks and transforms."""
    while _wraps(fn):
        fn = fn.base_dist
    return {name: to.inv(value.detach()) for name, value in _arguments(fn).items() if (to := _bijection(fn, name))}


def shift(fn: Any, offsets: dict[str, Tensor]) -> Any:
    """Return the distribution with each parameter moved by its offset in ℝⁿ."""
    if _wraps(fn):
        base = shift(fn.base_dist, offsets)
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
    return isinstance(fn, WRAPPERS) and not fn.arg_constraints


def _arguments(fn):
    """Return {name: value} of the arguments that define this distribution.

    Arguments that are None by default (`probs` and `logits`) are alternatives, of which the last is used.
    """
    names: list[str] = []
    alternatives: list[str] = []
    for name, parameter in inspect.signature(type(fn).__init__).parameters.items():
        if hasattr(fn, name):
            (alternatives if parameter.default is None else names).append(name)
    return {name: getattr(fn, name) for name in names + alternatives[-1:]}


def _bijection(fn, name):
    """Return torch's bijection from ℝⁿ to a parameter's values, or None without one."""
    with suppress(NotImplementedError, KeyError):
        return transform_to(fn.arg_constraints[name])
    return None


class LocalGuide:
    """q(z | x_n) with parameters for each image, within the guide's family.

    The parameters are offsets, initially zero, where this equals the guide. One is added to each tensor that depends on
    x and from which q(z | x) is computed: the output of a head's linear map, or the context of a flow. These tensors
    are the last outputs of modules in the autograd graph of the guide's log-probability, so any guide works. Tensors
    that are the same for all x (a shared flow, weights) do not change. With two levels, q(z1 | x, z2) gets an offset
    for each x and still depends on z2.

    If the guide does not use modules, for example only `pyro.param`, or if images have their own parameters, as in
    Pyro's AutoNormal, then the offsets are on the unconstrained parameters of its distributions.

    Offsets apply only inside calls of this program. A prior that uses the guide's encoder does not see them.

    Args:
        guide: a Pyro program over a batch of images.
        x: (batch, channels, height, width), the images of the offsets; the program can only be called with these.

    `offsets`: a list of tensors (batch, …) that require a gradient.

    Raises:
        ValueError: if a site of the guide is not reparameterised, or if no tensor can have an offset.

    >>> from vampyro import assemble
    >>> model, guide = assemble(flow="planar:2", hidden=(8,), latent=3, shape=(1, 4, 4))
    >>> [tuple(offset.shape) for offset in LocalGuide(guide, torch.zeros(5, 1, 4, 4)).offsets]     # head; u, w and b
    [(5, 6), (5, 2, 3), (5, 2, 3), (5, 2)]
    """

    def __init__(self, guide: Callable, x: Tensor):
        self.guide = guide
        latents, outputs = _last_outputs(guide, x)
        self._added = {key: torch.zeros_like(tensor).requires_grad_() for key, tensor in outputs}
        densities = {name: site["fn"] for name, site in latents.items() if not outputs and not is_delta(site["fn"])}
        self._shifts = {
            name: {
                parameter: torch.zeros_like(free).requires_grad_() for parameter, free in free_parameters(fn).items()
            }
            for name, fn in densities.items()
        }
        self.offsets = [*self._added.values(), *(o for offsets in self._shifts.values() for o in offsets.values())]
        if not self.offsets:
            raise ValueError(
                "the guide has nothing to optimise: neither a module with parameters computes its distributions from "
                "x, nor does a distribution at its sites have parameters"
            )

    def __call__(self, x: Tensor) -> Any:
        def change(key, tensor):
            return tensor + self._added[key] if key in self._added else tensor

        with _outputs_changed(change), _Shifts(self._shifts):
            return self.guide(x)


@contextmanager
def _outputs_changed(change):
    """Inside, tensor j that the i-th call of a module returns is `change((i, j), tensor)`.

    Only modules with parameters of their own count, neither containers nor activations. The hook is for all modules,
    since the modules of a guide that is a function are not listed anywhere.
    """
    calls = count()

    def hook(module, inputs, output):
        if next(module.parameters(recurse=False), None) is None:
            return None
        call, (leaves, structure) = next(calls), tree_flatten(output)
        changed = [change((call, j), t) if isinstance(t, torch.Tensor) else t for j, t in enumerate(leaves)]
        return tree_unflatten(changed, structure)

    handle = register_module_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.enable_grad()
def _last_outputs(guide, x):
    """The guide's sites, and [((call, tensor), value)] of the outputs that depend on x and reach a latent through no
    other such output."""
    x = x.detach().clone().requires_grad_()
    found = {}

    def record(key, tensor):
        found[key] = tensor
        return tensor

    with _outputs_changed(record):
        trace = trace_of(guide, x)
    latents = {name: site for name, site in sample_sites(trace).items() if not site["is_observed"]}
    for name, site in latents.items():
        if not site["fn"].has_rsample:
            raise ValueError(f"the guide's site {name!r} has no gradient: only reparameterised sites can be optimised")
    trace.compute_log_prob()
    ends = [t for site in latents.values() for t in (site["value"], site["log_prob"])]
    outputs = [(key, t) for key, t in found.items() if _depends(t, x) and not any(t is end for end in ends)]
    # A node of autograd's graph may return several tensors, so a tensor is a node and a number.
    places = {(t.grad_fn, t.output_nr): key for key, t in outputs}
    waiting = [(end.grad_fn, end.output_nr) for end in ends]
    seen, reached = set(), set()
    while waiting:
        place = waiting.pop()
        if place[0] is None or place in seen:
            continue
        seen.add(place)
        if place in places:
            reached.add(places[place])
        else:
            waiting += place[0].next_functions
    return latents, [(key, t) for key, t in outputs if key in reached]


def _depends(tensor, x):
    if not tensor.requires_grad:
        return False
    [gradient] = torch.autograd.grad(tensor.sum(), x, allow_unused=True, retain_graph=True)
    return gradient is not None
