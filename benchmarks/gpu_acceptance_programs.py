"""The programs and settings that an acceptance run checks; a new part, objective or likelihood adds its line here."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from vampyro.catalogue.assemble import assemble, build_objective
from vampyro.data import ImageSet
from vampyro.objectives import Objective
from vampyro.programs.randomness import seeded
from vampyro.training import make_update
from vampyro.training.engines.eager import EagerStep
from vampyro.training.engines.make import ENGINES
from vampyro.training.engines.svi import SVIStep

# name → spec strings of `assemble`, `objective` and `optimizer`
PROGRAMS = {
    "standard": {},
    "vamp": {"prior": "vamp:20"},
    "vamp weighted × planar": {"prior": "vamp:20:weighted", "flow": "planar:2"},
    "vamp-base × planar": {"prior": "vamp-base:20", "flow": "planar:2"},
    "mog × planar shared": {"prior": "mog:10:weighted", "flow": "planar:2:shared"},
    "vamp × radial": {"prior": "vamp:20", "flow": "radial:2"},
    "vamp × sylvester": {"prior": "vamp:20", "flow": "sylvester:2"},
    "vamp × iaf": {"prior": "vamp:20", "flow": "iaf:2"},
    "vamp × coupling": {"prior": "vamp:20", "flow": "coupling:2"},
    "vamp × spline": {"prior": "vamp:20", "flow": "spline:2"},
    "coupling prior": {"prior": "coupling:2"},
    "two-level": {"model": "two-level", "prior": "vamp:20", "flow": "planar:2,iaf:2"},
    "conv": {"net": "conv", "prior": "vamp:20"},
    "small-conv": {"net": "small-conv", "activation": "relu"},
    "likelihood normal": {"likelihood": "normal:learned"},
    "likelihood logistic": {"likelihood": "logistic"},
    "likelihood continuous-bernoulli": {"likelihood": "continuous-bernoulli"},
    "adam-normgrad": {"optimizer": "adam-normgrad"},
    "elbo:analytic": {"objective": "elbo:analytic"},
    "iwae": {"objective": "iwae:3", "prior": "vamp:20"},
    "intro": {"objective": "intro:40:reconstructions"},
    "bernoulli relaxed": {"posterior": "bernoulli", "objective": "elbo:relaxed"},
    "bernoulli score": {"posterior": "bernoulli", "prior": "vamp:20", "objective": "elbo:score"},
    "bernoulli enumerate": {"posterior": "bernoulli", "objective": "elbo:enumerate"},
    "vq": {"posterior": "vq:16"},
    "vq autoregressive": {"posterior": "vq:16", "prior": "autoregressive"},
    "delta": {"posterior": "delta"},
    "condition label": {"condition": "label", "prior": "vamp:20"},
}
SMALL = ("standard", "vamp weighted × planar", "two-level", "likelihood logistic", "intro", "bernoulli score", "vq")
COMPILED = ("standard", "vamp weighted × planar")  # compiling takes half a minute each
SCORED = ("standard", "vamp", "vamp weighted × planar", "vamp × spline", "mog × planar shared", "two-level", "conv")
SCORED += ("likelihood logistic", "bernoulli relaxed", "vq", "condition label")
GREY = ("normal", "logistic", "continuous-bernoulli")  # likelihoods that are trained on grey images
CLASSES = 10
LATENT = 8


@dataclass(frozen=True)
class Settings:
    """The device, the data and the sizes of an acceptance run.

    Attributes:
        device: the device to accept; the reference is always the CPU.
        small: the smallest sizes, for a test of the command.
        images: the packed data, on the CPU.
        packed: their file.
        folder: for runs, empty at the start.
    """

    device: torch.device
    small: bool
    images: ImageSet
    packed: Path
    folder: Path

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def names(self) -> tuple[str, ...]:
        """The programs that are checked."""
        return SMALL if self.small else tuple(PROGRAMS)

    @property
    def hidden(self) -> tuple[int, ...]:
        return (16,) if self.small else (100, 100)

    def part(self, train: int, others: int = 20, grey: bool = False) -> ImageSet:
        """The first images of each split with labels: black and white, or blurred to grey levels."""
        counts = {"train": train, "valid": others, "test": others}
        splits = {split: getattr(self.images, split)[:count] for split, count in counts.items()}
        if grey:
            splits = {split: blurred(images) for split, images in splits.items()}
        labels = {split: torch.arange(len(images)) % CLASSES for split, images in splits.items()}
        binarize = "none" if grey else self.images.binarize
        return replace(self.images, **splits, labels=labels, binarize=binarize)

    def data_for(self, name: str, train: int) -> ImageSet:
        """Images on the device that the program takes: grey for some likelihoods, with labels where it has them."""
        spec = PROGRAMS[name]
        images = self.part(train, grey=spec.get("likelihood", "").split(":")[0] in GREY)
        return (images.labelled() if "condition" in spec else images).to(self.device)

    def programs(self, name: str, device: torch.device | str = "cpu") -> tuple[nn.Module, nn.Module, object]:
        """(model, guide, objective), with the same parameters on every device."""
        spec = dict(PROGRAMS[name])
        objective = spec.pop("objective", "elbo")
        spec.pop("optimizer", None)
        classes = CLASSES if "condition" in spec else None
        shape = self.images.image_shape
        with seeded(7):
            model, guide = assemble(**spec, hidden=self.hidden, latent=LATENT, shape=shape, classes=classes)
            inputs = self.data_for(name, 1).input_shape
            objective = build_objective(objective, inputs)
        nn.ModuleList([model, guide, *([objective] if isinstance(objective, nn.Module) else [])]).to(device)
        return model, guide, objective

    def update(
        self, name: str, engine: str, device: torch.device | str | None = None, **arguments
    ) -> EagerStep | SVIStep:
        """The training step of the program on the device, or on another one."""
        model, guide, objective = self.programs(name, self.device if device is None else device)
        optimizer = PROGRAMS[name].get("optimizer", "adam")
        return make_update(model, guide, engine=engine, objective=objective, optimizer=optimizer, **arguments)


def engines_of(name: str) -> tuple[str, ...]:
    """The engines that can train the program."""
    objective = build_objective(PROGRAMS[name].get("objective", "elbo"), (1, 2, 2))
    return (objective.engines if isinstance(objective, Objective) else None) or tuple(ENGINES)


def blurred(images: torch.Tensor) -> torch.Tensor:
    """Black-and-white images as grey levels: the mean of every 3 × 3 pixels."""
    return nn.functional.avg_pool2d(images.float(), 3, 1, 1).round().to(torch.uint8)


RANDOM = (
    torch.normal,
    torch.rand,
    torch.randn,
    torch.rand_like,
    torch.randn_like,
    torch.randint,
    torch.randperm,
    torch.bernoulli,
    torch.multinomial,
)
RANDOM_IN_PLACE = (torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.exponential_)


class SameNoise(TorchFunctionMode):
    """Inside, every random number comes from the CPU's generator, drawn in float32 whatever precision is asked for.

    So a program computes the same on any device and in any precision, but for rounding.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None) -> object:
        kwargs = dict(kwargs or {})
        if function in RANDOM_IN_PLACE:
            drawn = function(torch.empty(args[0].shape, dtype=torch.float32), *args[1:], **kwargs)
            return args[0].copy_(drawn)
        if function not in RANDOM:
            return function(*args, **kwargs)
        tensors = [a for a in [*args, *kwargs.values()] if isinstance(a, torch.Tensor)]
        like = tensors[0] if tensors else torch.empty(0, device=kwargs.get("device"), dtype=kwargs.get("dtype"))
        args, kwargs = tree_map(lambda a: a.detach().cpu() if isinstance(a, torch.Tensor) else a, (args, kwargs))
        if kwargs.get("device") is not None:
            kwargs["device"] = "cpu"
        if not like.is_floating_point():
            return function(*args, **kwargs).to(like.device)
        args = [a.float() if isinstance(a, torch.Tensor) else a for a in args]
        if function in (torch.rand, torch.randn):
            kwargs["dtype"] = torch.float32
        drawn = function(*args, **kwargs).to(like.device)
        return drawn.to(like.dtype) if drawn.is_floating_point() else drawn


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Inside, torch makes tensors of that dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
