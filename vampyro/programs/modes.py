"""Context managers for the evaluation of programs."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from pyro import poutine
from torch import nn


@contextmanager
def _attribute(objects: list, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of each object inside the context, and restore it afterwards."""
    before = [getattr(each, name) for each in objects]
    try:
        for each in objects:
            setattr(each, name, value)
        yield
    finally:
        for each, old in zip(objects, before):
            setattr(each, name, old)


def evaluation_mode(*programs: Callable | None) -> AbstractContextManager:
    """Put the `nn.Module`s among `programs` in evaluation mode (no dropout) inside the context."""
    parts = [part for program in programs if isinstance(program, nn.Module) for part in program.modules()]
    return _attribute(parts, "training", False)


def without_gradients(program: Callable) -> AbstractContextManager:
    """Freeze the parameters of an `nn.Module` inside the context."""
    parameters = list(program.parameters()) if isinstance(program, nn.Module) else []
    return _attribute(parameters, "requires_grad", False)


@contextmanager
def replace_forwards(changed: Sequence[tuple[nn.Module, Callable]]) -> Iterator[None]:
    """Replace `part.forward` by `wrap(part.forward)` for each (part, wrap) inside the context."""
    own = [(part, vars(part).get("forward")) for part, _ in changed]  # None: the class's method
    try:
        for part, wrap in changed:
            part.forward = wrap(part.forward)
        yield
    finally:
        for part, forward in own:
            vars(part).pop("forward", None)
            if forward is not None:
                part.forward = forward


def constant_parts(program: Callable) -> AbstractContextManager:
    """Compute every part of `program` that is called without arguments (a prior) only once inside the context.

    The value of such a part depends only on parameters, which do not change during scoring. A part with sample sites
    is not constant and runs every time. A program that is not an `nn.Module` has no parts.
    """
    parts = program.modules() if isinstance(program, nn.Module) else []
    return replace_forwards([(part, _once) for part in parts if not inspect.signature(part.forward).parameters])


def _once(forward: Callable) -> Callable:
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
