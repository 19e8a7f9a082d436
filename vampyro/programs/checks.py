"""Checks that a model, a guide and images fit together."""

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

import pyro
from pyro import poutine
from pyro.nn import PyroModule
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vampyro.distributions.shapes import check_floats
from vampyro.programs.traces import Site, Sites, is_auxiliary, is_masked, kind_of_numbers, observes


def check_latents(model_latents: Iterable[str], guide_latents: Iterable[str]) -> None:
    """Raise a ValueError that names the latents that only one of the two programs has."""
    p, q = set(model_latents), set(guide_latents)
    differences = {"model": p - q, "guide": q - p}
    only = [f"only the {which} has {', '.join(map(repr, sorted(n)))}" for which, n in differences.items() if n]
    if only:
        raise ValueError(f"model and guide must have the same latent sites: {'; '.join(only)}")


def check_support(sites: Sites, latents: Collection[str] = ()) -> None:
    """Raise a ValueError that names an observed site with a value outside the support of its distribution.

    Bounds that are tensors may depend on the latents, as in Uniform(0, z). A density of 0 is valid for them.
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


def check_event(site: Site) -> None:
    """Raise a ValueError that names a site whose value does not have the event shape of its distribution."""
    event, shape = site["fn"].event_shape, site["value"].shape
    if shape[len(shape) - len(event) :] != event:
        raise ValueError(
            f"the site {site['name']!r} has a value of shape {tuple(shape)}, and its distribution has event shape "
            f"{tuple(event)}: give model and guide one latent size, and networks the images' shape"
        )


def check_images(images: Any, *programs: Callable) -> None:
    """Raise an error unless images are a non-empty batch (N, …) of finite floats that the programs can process.

    Raises:
        TypeError: for a value that is not a tensor of floats with the precision of the programs' parameters.
        ValueError: for an empty batch, numbers that are not finite, or another device than the parameters'.

    >>> import torch
    >>> check_images(torch.zeros(5, 1, 4, 4, dtype=torch.uint8))
    Traceback (most recent call last):
    TypeError: images are torch.uint8, expected torch.float32: images.float() / 255 for bytes, or data.images('test')
    """
    if not isinstance(images, Tensor):
        kind = type(images).__name__
        raise TypeError(f"images are a {kind}, expected a tensor of floats (N, …): data.images('test') for example")
    tensors = [t for p in programs if isinstance(p, nn.Module) for t in p.parameters() if t.is_floating_point()]
    check_floats(images, tensors, more=", or data.images('test')")
    if images.ndim < 1 or not len(images):
        raise ValueError(f"images are of shape {tuple(images.shape)}, expected at least one image, (N, …)")
    if count := (~images.isfinite()).reshape(len(images), -1).any(1).sum():
        raise ValueError(
            f"images hold numbers that are not finite (NaN or infinite) in {count} of {len(images)} images"
        )


def check_counts(least: int = 1, **counts: int) -> None:
    """Raise a ValueError that names the first count below `least`.

    >>> check_counts(2, samples=1)
    Traceback (most recent call last):
    ValueError: samples is 1, expected at least 2
    """
    for name, count in counts.items():
        if count < least:
            raise ValueError(f"{name} is {count}, expected at least {least}")


class _Recorder(Messenger):
    """Record the first version of each sample site, and check it before a density fails with a worse message."""

    def __init__(self):
        super().__init__()
        self.sites: Sites = {}

    def _pyro_post_sample(self, msg):
        if msg["name"] not in self.sites and not site_is_subsample(msg):
            self.sites[msg["name"]] = msg.copy()
            check_event(msg)
            check_support({msg["name"]: msg})


def check_pair(run: Callable, model: Callable, guide: Callable) -> Any:
    """Return run(model, guide), and raise a ValueError if the two programs cannot be trained together.

    Stock Pyro at most warns if model and guide are exchanged, if the model lacks a latent of the guide or if it lacks
    `obs=x`. The loss then falls but has no meaning.
    """
    p, q = _Recorder(), _Recorder()
    value = run(p(model), q(guide))
    check_roles(p.sites, q.sites)
    model_latents = {name: site for name, site in p.sites.items() if not site["is_observed"]}
    guide_latents = {name: site for name, site in q.sites.items() if not site["is_observed"]}
    check_latents(
        # The guide need not have a latent that the model sums over, nor the model an auxiliary site of the guide.
        [n for n, site in model_latents.items() if n in q.sites or site["infer"].get("enumerate") != "parallel"],
        [n for n, site in guide_latents.items() if n in p.sites or not is_auxiliary(site)],
    )
    return value


def check_roles(sites: Sites, latents: Sites) -> None:
    """Raise a ValueError if the guide observes a site, or the model does not; both are {name: site}."""
    exchanged = "; have model and guide changed places?"
    if seen := [name for name, site in latents.items() if observes(site)]:
        raise ValueError(f"a guide draws latents, and this one observes {', '.join(map(repr, seen))}{exchanged}")
    if not any(map(observes, sites.values())):
        raise ValueError(f"the model observes nothing: give its likelihood obs=x{exchanged}")


def foreign_sites(trace: poutine.Trace, program: nn.ModuleList) -> list[str]:
    """Return the names of param sites that are neither parameters of the modules in `program` nor made from them."""
    # A PyroModule's parameter is found by name: its site shows the value that Pyro's store first had for it.
    own = [part for part in program if isinstance(part, PyroModule)]
    names = {n.removesuffix("_unconstrained") for part in own for n, _ in part.named_parameters()}
    known = {id(parameter) for parameter in program.parameters()}
    values: dict[str, Any] = {name: site["value"] for name, site in trace.nodes.items() if name not in names}
    return [n for n, v in values.items() if id(v.unconstrained() if hasattr(v, "unconstrained") else v) not in known]


def check_trained(loss: Any, parameters: Iterable[Tensor]) -> None:
    """Raise a ValueError if a loss, or one of several, depends on trainable tensors that are not in `parameters`."""
    known, seen, found = {id(p) for p in parameters}, set[Any](), list[Tensor]()
    todo = [tensor.grad_fn for tensor in tree_leaves(loss)]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in known:
            found.append(leaf)
        todo += [parent for parent, _ in node.next_functions]
    stored = pyro.get_param_store().named_parameters()
    if earlier := [name for name, parameter in stored if any(parameter is leaf for leaf in found)]:
        raise ValueError(
            f"in Pyro's store {', '.join(map(repr, earlier))} is an earlier module's and replaces this module's: "
            "make PyroModules after pyro.settings.set(module_local_params=True), or after pyro.clear_param_store()"
        )
    if found:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in found[:3]) + ", …" * (len(found) > 3)
        raise ValueError(
            f"the loss depends on {len(found)} tensors that require gradients but are not parameters of model or guide "
            f"(shapes {shapes}), so they would not be trained: keep layers in an nn.ModuleList instead of a list, let "
            "a prior borrow from the guide it is trained with, or freeze the tensors with requires_grad_(False)"
        )
