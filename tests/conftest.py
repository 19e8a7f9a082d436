"""What tests share: every spec of a family, parameters of trained size, a grid over the plane, a small set."""

import signal
from contextlib import nullcontext, suppress
from itertools import combinations

import numpy as np
import pyro
import pytest
import torch
from torch import nn

import specs
import supports
from nets.conditioner import Conditioner
from nets.context import ContextMLP

with suppress(ValueError):  # where this is no main thread
    # Some shells start background jobs with Ctrl-C ignored, and nohup ignores SIGHUP: child processes would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
torch.set_num_threads(1)  # small tensors: on a busy machine threads wait for one another, fifty times as long


def every(family, count, posterior="normal"):
    """Every spec of a family: each name, N = count where it takes one, each set of options that may stand together.

    Of priors those that train with that posterior.
    """
    names = specs.FAMILIES[family]
    if family == "prior":
        names, _ = supports.fitting(posterior, "prior")
    return [
        ":".join([name, *([str(count)] if form.n is not None else []), *options])
        for name, form in specs.FAMILIES[family].items()
        if name in names
        for size in range(len(form.options) + 1)
        for options in combinations(form.options, size)
        if len(set(options) & set(form.exclusive)) < 2
    ]


def pairs(count):
    """(prior, flow): every prior beside one flow, and every flow beside the prior that is made of it.

    Other priors know nothing of the posterior's flow; their product with all of them is what test_grid runs.
    """
    one, borrowing = f"planar:{count}", f"vamp:{count}"
    beside = [(borrowing, flow) for flow in every("flow", count) if flow != one]
    return [(prior, one) for prior in every("prior", count)] + beside


def gap(a, b):
    """The largest distance between two tensors of one shape."""
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@pytest.fixture(autouse=True)
def fresh_state():
    """Every test starts with nothing in Pyro's store and leaves torch's default dtype as it was."""
    dtype = torch.get_default_dtype()
    pyro.clear_param_store()
    yield
    torch.set_default_dtype(dtype)


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


@pytest.fixture
def trained():
    return as_trained


def grid_error(*specs):
    """What a grid's sum may be off. A spline's density has kinks along lines, a radial flow's at points, and there the
    sum converges slowly: halving the cells' width divides the error by 4 and by 8."""
    return max(3e-4 if "spline" in spec else 2e-4 if "radial" in spec else 1e-6 for spec in specs)


@pytest.fixture
def plane():
    """plane(low, high, count): midpoints of a grid over [low, high]², (count², 2) in float64, and a cell's area."""

    def midpoints(low, high, count):
        low, high = (torch.as_tensor(t, dtype=torch.float64).expand(2) for t in (low, high))
        width = (high - low) / count
        axes = [a + w * (torch.arange(count, dtype=torch.float64) + 0.5) for a, w in zip(low, width)]
        return torch.cartesian_prod(*axes), width.prod()

    return midpoints


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Blobs of 1×6×5 pixels; 100 training images, so that the last batch is short."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, **{split: rng.random((n, 6, 5)) ** 2 for split, n in [("train", 100), ("valid", 30), ("test", 25)]})
    return path


def posterior_for(objective):
    """A posterior that the objective is for."""
    return "bernoulli" if set(objective.split(":")) & set(specs.ESTIMATORS) else "normal"


@pytest.fixture
def no_streams(monkeypatch):
    """torch.cuda's streams where there are none: what is put on one is done at once."""
    stream = type("Stream", (), {"wait_stream": lambda self, other: None})
    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
