"""The device and engine that a run uses, and what must fit into its memory."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from vampyro.catalogue.specs import parse
from vampyro.distributions import gemm
from vampyro.errors import UserError
from vampyro.likelihood.importance import least_bytes
from vampyro.memory import available_bytes, check_fits
from vampyro.objectives import Objective
from vampyro.runs.config import Config
from vampyro.runs.signals import deadly
from vampyro.training.distributed import Processes

ALONE = Processes()
# Steps from which compiling pays, above the break-even of every program measured in docs/speed.md: the seconds to
# compile it over the seconds that each compiled step saves.
COMPILE_FROM = 5_000


def join_processes(device: torch.device) -> Processes:
    """`Processes.join`; a signal ends this process at once while it waits for the others to start."""
    with deadly():
        return Processes.join(device)


class DeviceError(UserError):
    """A device that this machine lacks."""


def find_device(name: str) -> torch.device:
    """Return the device that `--device` stands for; a DeviceError where this machine has none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: torch sees no CUDA device on this machine; write --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def find_engine(
    config: Config, device: torch.device, images: int, objective: object, processes: Processes = ALONE
) -> str:
    """Return the engine that `auto` stands for: graph on CUDA, compiled from COMPILE_FROM steps on, else eager.

    The rule looks at the settings and the kind of device only, so that the same command always gets the same engine.
    An objective may name the `engines` that can train it. Neither a graph nor stock Pyro trains in several processes.
    """
    if processes.size > 1 and config.engine in ("graph", "svi"):
        raise DeviceError(f"--engine {config['engine']} runs in one process, not {processes.size}: write --engine auto")
    engines = objective.engines if isinstance(objective, Objective) else None
    if engines and config.engine not in ("auto", *engines):
        raise DeviceError(
            f"--engine {config['engine']} cannot train --objective {config['objective']}, which runs by "
            f"{' or '.join(engines)}: write --engine auto"
        )
    steps = config.epochs * -(-images // config.batch_size)
    if config.engine == "graph" and device.type != "cuda":
        raise DeviceError(f"--engine graph replays CUDA graphs, and this run is on {device.type}: write --engine auto")
    if config.engine == "auto":
        alone_on_cuda = device.type == "cuda" and processes.size == 1
        best = "graph" if alone_on_cuda else "compiled" if steps >= COMPILE_FROM else "eager"
        return engines[0] if engines and best not in engines else best
    return config.engine


def find_gemm(config: Config, device: torch.device) -> str:
    """Return the library for matrix products that `--gemm` stands for on `device` (see `gemm.choose`)."""
    try:
        return gemm.choose(device, config.gemm)
    except ValueError as error:
        raise DeviceError(f"--gemm {config['gemm']}: {error}; write --gemm auto") from None


@contextmanager
def recorded_products(library: str) -> Iterator[str]:
    """Inside, matrix products come from the library that a run recorded, or from one that is exact on this machine."""
    with gemm.using(library) as used:
        if used != library:
            print(f"warning: {library} rounds float32 products on this machine; with {used} last digits will differ")
        yield used


def check_objective(config: Config, images: int, shape: Sequence[int], device: torch.device) -> None:
    """Reject an objective whose samples of one batch need more memory than is left, of `images` of that `shape`."""
    objective, size = parse("objective", config.objective), min(config.batch_size, images)
    if objective.name == "iwae":
        check_fits(
            f"--objective {objective} with batches of {size} images",
            4 * objective.count * size * math.prod(shape),
            "choose fewer samples or a smaller --batch-size",
            available_bytes(device),
        )


def check_samples(model: torch.nn.Module, images: torch.Tensor, samples: int, flag: str = "--samples") -> None:
    """Reject more importance samples of an image than memory holds."""
    needed = least_bytes(model, images, samples)
    check_fits(f"{flag} {samples}", needed, "choose a smaller number", available_bytes(images.device))
