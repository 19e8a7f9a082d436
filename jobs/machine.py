"""What a run runs on: the device, the engine, and this process alone or among others."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from distributions import gemm
from inference.processes import Processes
from jobs.signals import deadly

ALONE = Processes()
# program: (seconds to compile it, ms of an eager step, ms of a compiled step), all from docs/speed.md. The seconds are
# those on one shared core where they were measured. Compiling pays from seconds / (eager - compiled) steps on.
COSTS = {
    "standard": (10, 10.70, 7.90),
    "vamp:500": (33, 29.04, 22.13),
    "vamp:500 planar:5": (48, 56.34, 32.21),
}
COMPILE_FROM = 5_000  # steps: above the break-even of every program in COSTS


def joined(device: torch.device) -> Processes:
    """`Processes.join`; a signal ends this process at once while it waits for the others to start."""
    with deadly():
        return Processes.join(device)


class DeviceError(ValueError):
    """A device that this machine lacks."""


def find_device(name):
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: torch sees no CUDA device on this machine; write --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def find_engine(config, device, images, objective, processes=ALONE):
    """The engine that `auto` stands for: graph on CUDA, compiled from COMPILE_FROM steps on, else eager.

    The rule looks at the settings and the kind of device only, so that the same command always gets the same engine.
    Where the objective names the `engines` that can train it, one of those. A graph would have to record what processes
    say to each other, and stock Pyro says nothing: not for several.
    """
    if processes.size > 1 and config["engine"] in ("graph", "svi"):
        raise DeviceError(f"--engine {config['engine']} runs in one process, not {processes.size}: write --engine auto")
    engines = getattr(objective, "engines", None)
    if engines and config["engine"] not in ("auto", *engines):
        raise DeviceError(
            f"--engine {config['engine']} cannot train --objective {config['objective']}, which runs by "
            f"{' or '.join(engines)}: write --engine auto"
        )
    steps = config["epochs"] * -(-images // config["batch_size"])
    if config["engine"] == "graph" and device.type != "cuda":
        raise DeviceError(f"--engine graph replays CUDA graphs, and this run is on {device.type}: write --engine auto")
    if config["engine"] == "auto":
        alone_on_cuda = device.type == "cuda" and processes.size == 1
        best = "graph" if alone_on_cuda else "compiled" if steps >= COMPILE_FROM else "eager"
        return engines[0] if engines and best not in engines else best
    return config["engine"]


def find_gemm(config: dict, device: torch.device) -> str:
    """The library for matrix products that `--gemm` stands for on `device` (see `distributions.gemm.choose`)."""
    try:
        return gemm.choose(device, config["gemm"])
    except ValueError as error:
        raise DeviceError(f"--gemm {config['gemm']}: {error}; write --gemm auto") from None


@contextmanager
def recorded_products(library: str) -> Iterator[str]:
    """Inside, matrix products come from the library that a run recorded; yields the one that is used.

    A warning says where oneDNN was recorded and rounds float32 products on this machine.
    """
    with gemm.using(library) as used:
        if used != library:
            print(f"warning: {library} rounds float32 products on this machine; with {used} last digits will differ")
        yield used
