"""Check the state of a training run in a checkpoint before any of it is used."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vampyro.training.checkpoint import CheckpointError, tensor_fault, weight_faults

ADAM = ("step", "exp_avg", "exp_avg_sq")  # the state of Adam for each parameter
COMMON = {"epoch", "loss", "seconds", "reconstruction"}
METRICS = COMMON | {"elbo", "kl"}, COMMON | {"objective", "log_prior"}  # of a guide with a density; of a Delta guide


def check_state(
    state: object,
    program: nn.Module,
    source: str | Path = "the checkpoint",
    parameters: Mapping[str, Tensor] | None = None,
    objective: Mapping[str, Tensor] | None = None,
    frame: tuple[int, ...] | None = None,
) -> dict:
    """Return `state` if it is one that a run of `program` saves.

    Args:
        program: `nn.ModuleList([model, guide])`.
        source: the file, for the error.
        parameters: all trained parameters by name; without them the state of the optimiser is not checked.
        objective: the state of an objective with parameters.
        frame: the shape of an image in the film of pseudo-inputs; without it the film is not checked.

    Raises:
        CheckpointError: one line names the wrong entry, its value and the expected one.
    """
    if not isinstance(state, dict):
        raise CheckpointError(f"{source} is not a valid checkpoint of this run: it is {_short(state)}, expected a dict")
    faults = _counts(state) or _weights(state, program)
    if not faults and parameters is not None:
        faults = _memory(state["update"], parameters, objective or {})
    if not faults and frame is not None:
        faults = _film(state.get("film", {}), state["epoch"], frame)
    if faults:
        more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(f"{source} is not a valid checkpoint of this run: {', '.join(faults[:3])}{more}")
    return state


def _counts(state: dict) -> list[str]:
    """Describe faults in the numbers of epochs and in their metrics."""
    for name, kind in {"epoch": int, "metrics": list, "program": dict, "update": dict, "best": dict}.items():
        if not isinstance(state.get(name), kind) or isinstance(state[name], bool):
            return [f"{name} is {_short(state.get(name))}, expected type {kind.__name__}"]
    epoch, metrics, best = state["epoch"], state["metrics"], state["best"]
    if epoch < 1 or len(metrics) != epoch:
        return [f"epoch is {_short(epoch)}, but it has metrics of {len(metrics)} epochs"]
    for number, line in enumerate(metrics, 1):
        if not isinstance(line, dict) or not any(names <= line.keys() for names in METRICS):
            return [f"the metrics of epoch {number} are incomplete"]
        if type(line["epoch"]) is not int or line["epoch"] != number or line.keys() != metrics[0].keys():
            return [f"the metrics of epoch {number} belong to another epoch"]
        for name, value in line.items():
            if not isinstance(name, str) or not _is_finite(value):
                return [f"{name!s:.40} of epoch {number} is {_short(value)}, expected a finite number"]
    for name in ("epoch", "last"):
        if type(best.get(name)) is not int or not 1 <= best[name] <= epoch:
            return [f"best.{name} is {_short(best.get(name))}, expected the number of an epoch up to {epoch}"]
    if type(best.get("score")) is not float or not math.isfinite(best["score"]):
        return [f"best.score is {_short(best.get('score'))}, expected a finite number"]
    return []


def _weights(state: dict, program: nn.Module) -> list[str]:
    expected = program.state_dict()
    return weight_faults(expected, state["program"]) or weight_faults(expected, state["best"].get("weights"))


def _memory(update: dict, parameters: Mapping[str, Tensor], objective: Mapping[str, Tensor]) -> list[str]:
    """Describe faults in the state of the optimiser and of the objective."""
    faults = weight_faults(objective, update.get("objective", {}))
    for name, memory in update.items():
        if name == "objective":
            continue
        if name not in parameters or not isinstance(memory, dict) or set(memory) != set(ADAM):
            faults.append(f"the optimiser's state of {name!s:.80} does not fit")
            continue
        for entry in ADAM:
            like = torch.zeros(()) if entry == "step" else parameters[name]
            if fault := tensor_fault(memory[entry], like, finite=False):
                faults.append(f"{entry} of {name} {fault}")
    return faults


def _film(film: object, epoch: int, frame: tuple[int, ...]) -> list[str]:
    if not isinstance(film, dict):
        return [f"film is {_short(film)}, expected a dict"]
    for name, frames in film.items():
        known = isinstance(name, str) and re.fullmatch("[1-9][0-9]{0,9}", name) and int(name) <= epoch
        if not known or not isinstance(frames, Tensor) or frames.dim() != len(frame) + 1 or not len(frames):
            return [f"film has the key {name!s:.40}, expected the number of an epoch with its images"]
        if fault := tensor_fault(frames, torch.empty(len(frames), *frame, dtype=torch.uint8)):
            return [f"film {name} {fault}"]
    return [] if len({len(frames) for frames in film.values()}) < 2 else ["the film has different numbers of images"]


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return type(value) is int and abs(value) < 10**300


def _short(value: object) -> str:
    if isinstance(value, int) and abs(value) > 10**9:
        return "a number of too many digits"
    if isinstance(value, (int, float)):
        return repr(value)
    return "missing" if value is None else f"of type {type(value).__name__}"
