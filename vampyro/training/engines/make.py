"""One training step, `update(x) -> {"loss": …}`, by engines that compute the same."""

import torch

from vampyro.objectives import Differentiable, Introspective, Objective, Trace_ELBO
from vampyro.training.engines.compiled import CompiledStep
from vampyro.training.engines.cuda_graph import GraphStep
from vampyro.training.engines.eager import EagerStep
from vampyro.training.engines.introspective import IntrospectiveStep
from vampyro.training.engines.optimizers import OPTIMIZERS
from vampyro.training.engines.svi import SVIStep

ENGINES = {
    "svi": SVIStep,  # stock Pyro, the reference
    "eager": EagerStep,  # the same without its waits
    "compiled": CompiledStep,  # loss and gradients in one graph, compiled
    "graph": GraphStep,  # on CUDA: the whole step recorded once, then replayed
}


def make_update(model, guide, *, weight=None, optimizer="adam", lr=1e-3, engine="eager", objective=None, reduce=None):
    """The function that `fit` calls for each batch: one gradient step on -ELBO per image, or another objective.

    Args:
        model, guide: Pyro programs. What is trained are the parameters of those that are `nn.Module`s; with engine
            `svi` any callables train, by what their `pyro.module` and `pyro.param` statements put in Pyro's store.
        weight: scalar tensor that multiplies the KL term (`KLWeight(...).value`), 1 if None.
        optimizer: `adam`, or `adam-normgrad` (gradients of unit length for each tensor).
        lr: its learning rate.
        engine: one of ENGINES.
        reduce: makes one gradient of several processes' (`Processes(...).reduce`).
        objective: one of `vampyro.objectives`: Trace_ELBO() unless given. The parameters of one
            that is an `nn.Module` are trained too. One whose gradient is not that of one loss brings its own `step`, a
            class with an engine's face; one that not every engine can train names those that can, in `engines`
            (`Introspective`, for both).

    Returns:
        update: x (batch, channels, height, width) → {"loss": scalar tensor, nats per image, …}, with
        `set_lr(lr)`, and `state_dict()` and `load_state_dict(state)` for the optimiser's memory.

    Raises:
        ValueError: for an unknown optimizer or engine, one that the objective cannot use, or `graph` away from CUDA.
        TypeError: where an engine other than `svi` is given two functions, which have no parameters, or for an
            objective that does not have what the engine asks for.

    The first update checks, under Pyro's validation, that the two are a pair, that the model has mass on the images and
    that every parameter of the loss is one of theirs; later ones do not look.

    >>> from vampyro import assemble
    >>> update = make_update(*assemble(hidden=(8,), latent=2, shape=(1, 4, 4)))
    >>> update(torch.zeros(5, 1, 4, 4))["loss"] > 0
    tensor(True)
    """
    for kind, name, known in (("engine", engine, list(ENGINES)), ("optimizer", optimizer, list(OPTIMIZERS))):
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}: choose from {', '.join(known)}")
    modules = [program for program in (model, guide) if isinstance(program, torch.nn.Module)]
    for role, program in (("model", model), ("guide", guide)):
        needed = program not in modules if isinstance(objective, Introspective) else not modules and engine != "svi"
        if needed or not callable(program):
            raise TypeError(
                f"{role} is a {type(program).__name__}, and engine {engine!r} trains the parameters of nn.Modules; for "
                "functions with pyro.module or pyro.param statements: make_update(model, guide, engine='svi')"
            )
    if weight is None:
        parameter = next(torch.nn.ModuleList(modules).parameters(), torch.ones(()))
        weight = torch.ones((), device=parameter.device)
    if engine == "graph" and weight.device.type != "cuda":
        raise ValueError(f"engine graph replays CUDA graphs, and the program is on {weight.device.type}")
    if isinstance(objective, torch.nn.Module):
        objective.to(weight.device)
    objective = objective or Trace_ELBO()
    ours = objective if isinstance(objective, Objective) else None
    asked = "reference" if engine == "svi" else "differentiable_loss"  # as Pyro's own estimators have it
    has = ours and ours.reference() is not None if engine == "svi" else isinstance(objective, Differentiable)
    if not isinstance(objective, Introspective) and not has:
        raise TypeError(f"engine {engine} asks an objective for its {asked}; {objective!r} has none: give IWAE(5), say")
    if engine not in (engines := ours and ours.engines or ENGINES):
        raise ValueError(f"{type(objective).__name__} trains by engine {' or '.join(engines)}, not by {engine!r}")
    step = IntrospectiveStep if isinstance(objective, Introspective) else ENGINES[engine]
    return step(model, guide, weight, optimizer, lr, objective, reduce)
