"""Helpers that tests share: every spec of a family, parameters of trained size, distances."""

from itertools import combinations

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from vampyro import diagnostics, likelihood, training
from vampyro.catalogue import compatibility
from vampyro.catalogue.parts import ESTIMATORS, rows
from vampyro.catalogue.specs import parse
from vampyro.nets.context import Conditioner, ContextMLP
from vampyro.programs import layout


def every(family, count, posterior="normal"):
    """Every spec of a family: each name, N = count where it takes one, each set of options that may stand together.

    Of priors those that train with that posterior.
    """
    names = compatibility.fitting(posterior, "prior") if family == "prior" else rows(family)
    return [
        ":".join([name, *([str(count)] if form.n is not None else []), *options])
        for name, form in rows(family).items()
        if name in names
        for size in range(len(form.options) + 1)
        for options in combinations(form.options, size)
        if len(set(options) & set(form.exclusive)) < 2
    ]


def build_part(family, spec, *arguments, latents="real"):
    """What the row of a spec builds."""
    spec = parse(family, spec)
    return rows(family)[spec.name].builder(latents)(spec, *arguments)


def pairs(count):
    """(prior, flow): every prior beside one flow, and every flow beside the prior that is made of it.

    Other priors know nothing of the posterior's flow; their product with all of them is what test_grid runs.
    """
    one, borrowing = f"planar:{count}", f"vamp:{count}"
    beside = [(borrowing, flow) for flow in every("flow", count) if flow != one]
    return [(prior, one) for prior in every("prior", count)] + beside


def distinct_pairs(count):
    """`pairs` without those that differ only in their initial values or in what a flow depends on."""
    return [(prior, flow) for prior, flow in pairs(count) if "from-data" not in prior and "shared" not in flow]


def gap(a, b):
    """The largest distance between two tensors of one shape."""
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@torch.no_grad()
def as_trained(module, norm=2.0):
    """The module with parameters as large as training makes them.

    A flow's vectors get norm `norm` and really depend on h, linear maps a gain of `norm`, all
    other parameters move by norm/2·N(0, 1). A guide that a prior borrows is no part of it: pass both.
    """
    for part in module.modules():
        if isinstance(part, Conditioner):
            sizes = [norm / shape[-1] ** 0.5 if len(shape) > 1 else 1.0 for shape in part.shapes]
            size = torch.cat([torch.full((count,), size) for count, size in zip(part.sizes, sizes)]).to(part.bias)
            part.bias.copy_(size * torch.randn_like(part.bias))
            if part.weight is not None:  # for h ~ N(0, I), half of the variance comes from h
                part.bias.mul_(0.5**0.5)
                size = size.unsqueeze(-1) * (2 * part.weight.shape[1]) ** -0.5
                part.weight.copy_(size * torch.randn_like(part.weight))
        elif isinstance(part, ContextMLP):
            # As measured after training on MNIST: W a and V h of size 1, and for norm = 2 an output of size 0.4.
            for name, size in (("w", 1.0), ("v", 1.0), ("u", 0.2 * norm)):
                if (matrix := getattr(part, name)) is not None and matrix.numel():
                    matrix.normal_(std=size / matrix.shape[1] ** 0.5)
            part.b.normal_(std=0.5), part.d.normal_(std=0.1 * norm)
        elif isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            part.weight.normal_(std=norm / (part.weight[0].numel()) ** 0.5)
            part.bias.normal_(std=0.5)
        elif isinstance(part, nn.Linear):
            part.weight.normal_(std=norm / part.in_features**0.5)
            part.bias.normal_(std=0.5)
        else:
            for parameter in part.parameters(recurse=False):
                parameter.add_(norm / 2 * torch.randn_like(parameter))
    return module


def grid_error(*specs):
    """What a grid's sum may be off. A spline's density has kinks along lines, a radial flow's at points, and there the
    sum converges slowly: halving the cells' width divides the error by 4 and by 8."""
    return max(3e-4 if "spline" in spec else 2e-4 if "radial" in spec else 1e-6 for spec in specs)


def posterior_for(objective):
    """A posterior that the objective is for."""
    return "bernoulli" if set(objective.split(":")) & set(ESTIMATORS) else "normal"


def find(name):
    """The function of that name, in whichever package exports it."""
    packages = diagnostics, likelihood, training, layout
    [found] = {getattr(package, name) for package in packages if hasattr(package, name)}
    return found


class Waits(TorchDispatchMode):
    """Counts the operations that read from the device, such as `.item()`, `if tensor` and indexing with a mask."""

    names = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount"}

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket.__name__ in self.names
        return function(*args, **(kwargs or {}))
