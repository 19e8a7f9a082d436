"""Choose the device and the engine of a run, and check that it fits into memory."""

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
# Number of steps from which compiling saves time, for every program in docs/speed.md: the time to compile divided by
# the time saved per step.
COMPILE_FROM = 5_000


def join_processes(device: torch.device) -> Processes:
    """Join the processes; a signal ends this one immediately while it waits for the others to start."""
    with deadly():
        return Processes.join(device)


class DeviceError(UserError):
    """This machine does not have the requested device."""


def find_device(name: str) -> torch.device:
    """Return the device for `--device`; raise a DeviceError if this machine does not have it."""
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: torch sees no CUDA device on this machine; write --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def find_engine(
    config: Config, device: torch.device, images: int, objective: object, processes: Processes = ALONE
) -> str:
    """Return the engine for `auto`: "graph" on CUDA; elsewhere "compiled" for COMPILE_FROM or more steps, else "eager".

    The rule depends only on the settings and the kind of device, so the same command always uses the same engine. An
    objective can restrict the `engines`. The engines graph and svi cannot train in several processes.
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
    """Return the library for matrix products for `--gemm` on `device` (see `gemm.choose`)."""
    try:
        return gemm.choose(device, config.gemm)
    except ValueError as error:
        raise DeviceError(f"--gemm {config['gemm']}: {error}; write --gemm auto") from None


@contextmanager
def recorded_products(library: str) -> Iterator[str]:
    """Use the recorded library for matrix products, or one that is exact on this machine, inside the context."""
    with gemm.using(library) as used:
        if used != library:
            print(f"warning: {library} rounds float32 products on this machine; with {used} last digits will differ")
        yield used


def check_objective(config: Config, images: int, shape: Sequence[int], device: torch.device) -> None:
    """Raise a CapacityError if the samples of an objective for one batch need more memory than is available."""
    objective, size = parse("objective", config.objective), min(config.batch_size, images)
    if objective.name == "iwae":
        check_fits(
            f"--objective {objective} with batches of {size} images",
            4 * objective.count * size * math.prod(shape),
            "choose fewer samples or a smaller --batch-size",
            available_bytes(device),
        )


def check_samples(model: torch.nn.Module, images: torch.Tensor, samples: int, flag: str = "--samples") -> None:
    """Raise a CapacityError if the importance samples of one image need more memory than is available."""
    needed = least_bytes(model, images, samples)
    check_fits(f"{flag} {samples}", needed, "choose a smaller number", available_bytes(images.device))
