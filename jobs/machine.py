"""What a run runs on: the device, the engine, and this process alone or among others."""

import torch

from inference.processes import Processes

ALONE = Processes()
COMPILE_FROM = 5_000  # steps: of fewer, compiling takes more time than it saves


class DeviceError(ValueError):
    """A device that this machine lacks."""


def find_device(name):
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: torch sees no CUDA device on this machine; write --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def find_engine(config, device, images, objective, processes=ALONE):
    """The engine that `auto` stands for: graph on CUDA, compiled where the run is long enough to pay for it.

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
