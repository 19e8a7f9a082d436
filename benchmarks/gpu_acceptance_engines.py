"""Checks of training: every engine on the device against the CPU and against the eager engine."""

import contextlib
import copy
import tempfile
from collections.abc import Iterator
from functools import partial

import torch
import torch.distributed as dist
from torch.nn.utils import get_total_norm

from benchmarks.gpu_acceptance_programs import COMPILED, SameNoise, Settings, default_dtype, engines_of
from benchmarks.gpu_acceptance_rows import Result, Skip, Task
from vampyro.training import fit
from vampyro.training.distributed import Processes
from vampyro.training.engines.eager import EagerStep

BATCH = 20
LOSS_LIMIT, GRADIENT_LIMIT = 1e-5, 2e-4  # rounding gives 1e-7 and 2e-5; TF32 products give 1e-3
# cuDNN computes one float32 weight gradient of the encoder with a less exact algorithm: 3e-4 on an H100 with TF32 off,
# and 5e-7 without cuDNN.
CONVOLUTION_LIMIT = 6e-4
MOVEMENT_LIMIT = 0.01  # of what the parameters moved: Adam turns rounding of tiny gradients into whole steps
NEEDS_CUDA = "needs a CUDA device"


def tasks(settings: Settings) -> Iterator[Task]:
    """The rows of this file, the cheapest first."""
    for name in settings.names:
        proves = "At equal random numbers, the loss and every gradient on the device are those of the CPU in float64."
        yield Task(f"eager gradients · {name}", proves, partial(eager_gradients, settings, name))
    for name in settings.names:
        proves = "No eager training step waits for the GPU: torch's sync debug mode stays silent."
        yield Task(f"no sync, eager · {name}", proves, partial(no_sync_eager, settings, name))
    for name in settings.names:
        if "svi" in engines_of(name):
            proves = "Stock SVI computes the eager engine's losses and parameters on the device, from equal seeds."
            yield Task(f"svi · {name}", proves, partial(same_training, settings, name, "svi"))
    for name in settings.names:
        if "graph" in engines_of(name):
            proves = "The step is recorded, replays give the eager losses and parameters, and no replay waits."
            yield Task(f"graph · {name}", proves, partial(recorded, settings, name))
    proves = "Over NCCL, the reduced gradients of one process are its own, and words are shared."
    yield Task("one process group", proves, partial(process_group, settings))


def compiled_tasks(settings: Settings) -> Iterator[Task]:
    """The rows of the compiled engine, the most expensive."""
    for name in COMPILED:
        proves = "The compiled loss and gradients on the device are the eager ones, and no step waits."
        yield Task(f"compiled · {name}", proves, partial(compiled, settings, name), seconds=30, most=90)


def batch_of(settings: Settings, name: str) -> torch.Tensor:
    """The program's first images, on the device."""
    images = settings.data_for(name, BATCH)
    return images.images("train")


def gradients(update: EagerStep, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss and the gradients of a step, on the CPU, both in float64."""
    torch.manual_seed(1)
    loss = update.backward(x)
    if isinstance(loss, dict):
        loss = loss["loss"]
    found = {name: p.grad.detach().cpu().double() for name, p in update.parameters.items() if p.grad is not None}
    return loss.detach().cpu().double(), found


def distances(ours: tuple, theirs: tuple) -> tuple[float, float, str]:
    """The relative distance of two losses, the largest one of two gradients, and the name of that parameter."""
    (loss, found), (expected_loss, expected) = ours, theirs
    if found.keys() != expected.keys():
        raise ArithmeticError(f"gradients of other parameters: {sorted(found.keys() ^ expected.keys())[:3]}")
    size = get_total_norm(list(expected.values()))
    each = {
        name: ((found[name] - g).norm() / (g.norm() + 1e-3 * size).clamp(min=1e-30)).item()
        for name, g in expected.items()
    }
    worst = max(each, key=each.get)
    return ((loss - expected_loss).abs() / expected_loss.abs()).item(), each[worst], worst


def compared(ours: tuple, theirs: tuple, limit: float = GRADIENT_LIMIT) -> Result:
    """A row's result for (loss, gradients) of two computations."""
    loss, gradient, worst = distances(ours, theirs)
    passed = loss <= LOSS_LIMIT and gradient <= limit
    expected = f"loss ≤ {LOSS_LIMIT:g}, gradient ≤ {limit:g}"
    return f"loss {loss:.1g}, gradient {gradient:.1g}", expected, passed, {"worst": worst, "loss": loss}


def eager_gradients(settings: Settings, name: str) -> Result:
    results = []
    for device, dtype in ((settings.device, torch.float32), (torch.device("cpu"), torch.float64)):
        update, x = settings.update(name, "eager", device), batch_of(settings, name).to(device, dtype)
        update.program.to(dtype)
        with SameNoise(), default_dtype(dtype):
            for _ in range(2):  # the first runs under Pyro's validation
                result = gradients(update, x)
        results.append(result)
    return compared(*results, CONVOLUTION_LIMIT if "conv" in name else GRADIENT_LIMIT)


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Inside, whatever waits for the GPU raises."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def no_sync_eager(settings: Settings, name: str) -> Result:
    if not settings.cuda:
        raise Skip(NEEDS_CUDA)
    update, x = settings.update(name, "eager"), batch_of(settings, name)
    for _ in range(3):
        update(x)
    with no_waiting():
        for _ in range(2):
            update(x)
    return "no wait", "no wait", True, {}


def trained(settings: Settings, name: str, engine: str, epochs: int = 2, images: int = 5 * BATCH + 7) -> tuple:
    """(losses of the epochs, the parameters before, the parameters after, the update)."""
    update = settings.update(name, engine)
    before = copy.deepcopy(update.program.state_dict())
    losses = [
        metrics["loss"]
        for metrics in fit(update, settings.data_for(name, images), epochs=epochs, batch_size=BATCH, seed=3)
    ]
    return losses, before, update.program.state_dict(), update


def same_training(settings: Settings, name: str, engine: str, limits=(1e-3, MOVEMENT_LIMIT), **arguments) -> Result:
    """Compares an engine's training with the eager engine's from the same seed: its losses and its parameters."""
    expected_losses, start, expected, _ = trained(settings, name, "eager", **arguments)
    losses, _, found, update = trained(settings, name, engine, **arguments)
    error = max(abs(a - b) / abs(b) for a, b in zip(losses, expected_losses, strict=True))
    trainable = [key for key, tensor in start.items() if tensor.is_floating_point()]
    apart = get_total_norm([found[key] - expected[key] for key in trainable])
    moved = get_total_norm([expected[key] - start[key] for key in trainable])
    movement = (apart / moved).item()
    passed = error <= limits[0] and movement <= limits[1]
    details = {"losses": losses, "eager losses": expected_losses}
    value = f"losses {error:.1g}, parameters {movement:.1g} of their movement"
    expected = f"losses ≤ {limits[0]:g}" + (f", movement ≤ {limits[1]:g}" if limits[1] < float("inf") else "")
    return value, expected, passed, details | {"update": repr(update)}


def recorded(settings: Settings, name: str) -> Result:
    if not settings.cuda:
        raise Skip(NEEDS_CUDA)
    # Of five whole batches an epoch three warm up, the fourth is recorded, and all others are replays. A recording
    # compares its first replay with the eager step at equal noise; later replays may draw noise of their own.
    value, expected, passed, details = same_training(settings, name, "graph", limits=(1e-2, float("inf")), epochs=3)
    update, data = settings.update(name, "graph"), settings.data_for(name, 5 * BATCH)
    for _ in range(2):
        update.epoch(data, BATCH)
    if update.graph.graph is None:
        return "not recorded (details.log says why)", expected, False, details
    with no_waiting():
        update.epoch(data, BATCH)
    return f"{value}; no wait", expected, passed, details


def compiled(settings: Settings, name: str) -> Result:
    eager, update = settings.update(name, "eager"), settings.update(name, "compiled")
    x = batch_of(settings, name)
    for _ in range(2):
        theirs, ours = gradients(eager, x), gradients(update, x)
    if update.staged is None:
        return "not compiled (details.log says why)", "compiled", False, {}
    result = compared(ours, theirs)
    if settings.cuda:
        update(x)
        with no_waiting():
            update(x)
    return result


def process_group(settings: Settings) -> Result:
    """One process in a group of its own: what several would do, but for the sum."""
    backend = "cpu:gloo,cuda:nccl" if settings.cuda else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            processes = Processes(0, 2)  # two, so that nothing is left out because the process is alone
            shared = processes.broadcast({"word": 1})
            with processes.leader_first():
                pass
            results = []
            for reduce in (None, processes.reduce):
                update = settings.update("vamp weighted × planar", "eager", reduce=reduce)
                x = batch_of(settings, "vamp weighted × planar")
                torch.manual_seed(1)
                loss = update(x)["loss"].detach().cpu().double()
                found = {name: p.grad.cpu().double() for name, p in update.parameters.items()}
                results.append((loss, found))
        finally:
            dist.destroy_process_group()
    value, expected, passed, details = compared(*results)
    return f"{backend}: {value}", expected, passed and shared == {"word": 1}, details
