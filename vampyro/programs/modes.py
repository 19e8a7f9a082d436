"""Context managers in which programs are evaluated."""

import inspect
from contextlib import contextmanager
from typing import Any

from pyro import poutine
from torch import nn


@contextmanager
def evaluation_mode(*programs):
    """Inside, `nn.Module`s among `programs` are in evaluation mode (no dropout); then each part is as it was."""
    parts = [part for program in programs if isinstance(program, nn.Module) for part in program.modules()]
    modes = [part.training for part in parts]
    try:
        for part in parts:
            part.training = False
        yield
    finally:
        for part, mode in zip(parts, modes):
            part.training = mode


@contextmanager
def without_gradients(program):
    """Inside, no parameter of an `nn.Module` asks for its gradient; then each is as it was."""
    parameters = list(program.parameters()) if isinstance(program, nn.Module) else []
    asked = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, ask in zip(parameters, asked):
            parameter.requires_grad_(ask)


@contextmanager
def forwards(changed):
    """Inside, `part.forward` is `wrap(part.forward)` for each (part, wrap); then each is as it was."""
    own = [(part, vars(part).get("forward")) for part, _ in changed]  # None where the class's method serves
    try:
        for part, wrap in changed:
            part.forward = wrap(part.forward)
        yield
    finally:
        for part, forward in own:
            vars(part).pop("forward", None)
            if forward is not None:
                part.forward = forward


@contextmanager
def constant_parts(program):
    """Inside, every part of `program` that is called without arguments (a prior) is computed once.

    Its value depends on parameters alone, and those stand still while a program is scored. A part that
    samples is no such constant and runs every time. A program that is no `nn.Module` has no parts.
    """
    parts = program.modules() if isinstance(program, nn.Module) else []
    parts = [part for part in parts if not inspect.signature(part.forward).parameters]
    with forwards([(part, _once) for part in parts]):
        yield


def _once(forward):
    kept: list[Any] = []

    def call():
        if kept:
            return kept[0]
        trace = poutine.trace(forward).get_trace()
        value = trace.nodes["_RETURN"]["value"]
        if all(site["type"] != "sample" for site in trace.nodes.values()):
            kept.append(value)
        return value

    return call
