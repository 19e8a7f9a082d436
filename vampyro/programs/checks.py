"""Checks that a model, a guide and images belong together."""

import math

import pyro
import torch
from pyro.nn import PyroModule
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vampyro.distributions.shapes import check_floats
from vampyro.programs.traces import (
    is_auxiliary,
    is_masked,
    kind_of_numbers,
    observes,
)


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


def check_images(images, *programs) -> None:
    """Raise an error that says what is wrong with images, and what to give instead.

    Args:
        images: what a caller gave as a batch of images, (N, …).
        programs: Pyro programs; those that are `nn.Module`s say which dtype and device they compute with.

    Raises:
        TypeError: where they are not a tensor of floats, or of another precision than the programs' parameters.
        ValueError: where there are none, some number is not finite, or they lie on another device.

    >>> check_images(torch.zeros(5, 1, 4, 4, dtype=torch.uint8))
    Traceback (most recent call last):
    TypeError: images are torch.uint8, expected torch.float32: images.float() / 255 for bytes, or data.images('test')
    """
    if not isinstance(images, torch.Tensor):
        kind = type(images).__name__
        raise TypeError(f"images are a {kind}, expected a tensor of floats (N, …): data.images('test') for example")
    tensors = [t for p in programs if isinstance(p, nn.Module) for t in p.parameters() if t.is_floating_point()]
    check_floats(images, tensors, more=", or data.images('test')")
    if images.ndim < 1 or not len(images):
        raise ValueError(f"images are of shape {tuple(images.shape)}, expected at least one image, (N, …)")
    if not (finite := images.isfinite()).all():
        count = (~finite).reshape(len(images), -1).any(1).sum()
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


class Witness(Messenger):
    """Round a program: its sample sites, {name: site}, as they first were; and what no density would say so well.

    Raises:
        ValueError: where what is observed, or drawn by the guide, is not what the model's site is about.
    """

    def __init__(self):
        super().__init__()
        self.sites = {}

    def _pyro_post_sample(self, msg):
        if msg["name"] not in self.sites and not site_is_subsample(msg):
            self.sites[msg["name"]] = msg.copy()
            check_event(msg)
            check_support({msg["name"]: msg})


def watched(run, model, guide):
    """run(model, guide), an objective's first, and a ValueError that says so where the two are no pair.

    Stock Pyro warns at most, and trains: an exchanged pair, a guide whose latents the model does not have, a model that
    forgot `obs=x`; the loss falls, and means nothing.
    """
    p, q = Witness(), Witness()
    value = run(p(model), q(guide))
    check_pair(p.sites, q.sites)
    return value


def check_roles(sites, latents):
    """Raises a ValueError where of a model's sample sites, {name: site}, none is observed, or one of a guide's is."""
    exchanged = "; have model and guide changed places?"
    if seen := [name for name, site in latents.items() if observes(site)]:
        raise ValueError(f"a guide draws latents, and this one observes {', '.join(map(repr, seen))}{exchanged}")
    if not any(map(observes, sites.values())):
        raise ValueError(f"the model observes nothing: give its likelihood obs=x{exchanged}")


def check_pair(sites, latents):
    """Raises a ValueError that names what keeps a model and a guide with these sample sites from training together."""
    check_roles(sites, latents)
    check_latents(
        [name for name, site in sites.items() if not site["is_observed"] and (name in latents or not summed(site))],
        [
            name
            for name, site in latents.items()
            if not site["is_observed"] and (name in sites or not is_auxiliary(site))
        ],
    )


def summed(site):
    """Whether a model's latent is enumerated, so that no guide need draw it."""
    return site["infer"].get("enumerate") == "parallel"


def strangers(loss, parameters):
    """The tensors that a loss, or several, would train if somebody asked it to, and that are none of `parameters`.

    >>> import torch
    >>> a, b = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    >>> strangers((a.sum() + b.sum()).exp(), [a])
    [tensor([1., 1., 1.], requires_grad=True)]
    """
    known, seen, found = {id(p) for p in parameters}, set(), []
    todo = [tensor.grad_fn for tensor in tree_leaves(loss)]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if id(leaf := getattr(node, "variable", None)) not in known and leaf is not None:
            found.append(leaf)
        todo += [parent for parent, _ in node.next_functions]
    return found


def foreign_sites(trace, program):
    """Of a trace's param sites the names of those that are no parameter of the modules in `program`, nor made from one
    by a constraint."""
    # A PyroModule's parameter is known by its name: its site shows what Pyro's store first had under that.
    own = [part for part in program if isinstance(part, PyroModule)]
    names = {n.removesuffix("_unconstrained") for part in own for n, _ in part.named_parameters()}
    parameters = list(program.parameters())

    def known(name, value):
        made_from = value.unconstrained() if hasattr(value, "unconstrained") else value
        return name in names or any(made_from is parameter for parameter in parameters)

    return [name for name, site in trace.nodes.items() if not known(name, site["value"])]


def check_trained(loss, parameters):
    """Raises a ValueError where a loss depends on numbers that would be trained, were they among `parameters`."""
    found, stored = strangers(loss, parameters), pyro.get_param_store().named_parameters()
    if earlier := [name for name, parameter in stored if any(parameter is leaf for leaf in found)]:
        raise ValueError(
            f"in Pyro's store {', '.join(map(repr, earlier))} is an earlier module's, which stands in for this one's: "
            "make PyroModules after pyro.settings.set(module_local_params=True), or after pyro.clear_param_store()"
        )
    if found:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in found[:3]) + ", …" * (len(found) > 3)
        raise ValueError(
            f"the loss depends on {len(found)} tensors that ask for gradients and are no parameters of model or guide "
            f"(of shapes {shapes}): they would stay as they are; keep layers in an nn.ModuleList, not "
            "in a list; let a prior borrow from the guide it is trained with; or freeze them, requires_grad_(False)"
        )
