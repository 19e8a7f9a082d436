"""What is the same for every way of evaluating a pair of programs without training it."""

import inspect
from contextlib import contextmanager

from pyro import poutine
from torch import nn


def check_latents(model_latents, guide_latents):
    """Raises a ValueError that names the latents that only one of the two programs has; both are lists of names."""
    model_latents, guide_latents = set(model_latents), set(guide_latents)
    if model_latents != guide_latents:
        only = "; ".join(
            f"only the {which} has {', '.join(map(repr, sorted(names)))}"
            for which, names in [("model", model_latents - guide_latents), ("guide", guide_latents - model_latents)]
            if names
        )
        raise ValueError(f"model and guide must have the same latent sites: {only}")


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
def constant_parts(program):
    """Inside, every part of `program` that is called without arguments (a prior) is computed once.

    Its value depends on parameters alone, and those stand still while a program is scored. A part that
    samples is no such constant and runs every time. A program that is no `nn.Module` has no parts.
    """
    parts = program.modules() if isinstance(program, nn.Module) else []
    parts = [part for part in parts if not inspect.signature(part.forward).parameters]
    own = [vars(part).get("forward") for part in parts]  # None where the class's method serves, as it does mostly
    try:
        for part in parts:
            part.forward = _once(part.forward)
        yield
    finally:
        for part, forward in zip(parts, own):
            del part.forward
            if forward is not None:
                part.forward = forward


def _once(forward):
    kept = []

    def call():
        if kept:
            return kept[0]
        trace = poutine.trace(forward).get_trace()
        value = trace.nodes["_RETURN"]["value"]
        if all(site["type"] != "sample" for site in trace.nodes.values()):
            kept.append(value)
        return value

    return call
