"""Build the training step `update(x) -> {"loss": …}` of an engine."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vampyro.objectives import Differentiable, Introspective, Objective, Trace_ELBO
from vampyro.training.engines.compiled import CompiledStep
from vampyro.training.engines.cuda_graph import GraphStep
from vampyro.training.engines.eager import EagerStep
from vampyro.training.engines.introspective import IntrospectiveStep
from vampyro.training.engines.optimizers import OPTIMIZERS
from vampyro.training.engines.svi import SVIStep

ENGINES = {
    "svi": SVIStep,  # stock Pyro, the reference
    "eager": EagerStep,  # the same without waiting for the device
    "compiled": CompiledStep,  # loss and gradients in one compiled graph
    "graph": GraphStep,  # on CUDA: the whole step, recorded once and replayed
}


def make_update(
    model: Any,
    guide: Any,
    *,
    weight: Tensor | None = None,
    optimizer: str = "adam",
    lr: float = 1e-3,
    engine: str = "eager",
    objective: Any = None,
    reduce: Callable[..., dict[str, Tensor]] | None = None,
) -> Any:
    """Return the function that `fit` calls for each batch: a gradient step on -ELBO per image, or another objective.

    The first update runs under Pyro's validation. It checks that model and guide have the same latent sites, that the
    model has mass on the images, and that the loss depends on no parameters of other modules.

    Args:
        model, guide: Pyro programs. The parameters of `nn.Module`s are trained. Engine `svi` takes any callables, and
            trains what their `pyro.module` and `pyro.param` statements put into Pyro's store.
        weight: scalar tensor that multiplies the KL term (`KLWeight(...).value`); 1 if None.
        optimizer: `adam`, or `adam-normgrad`, which normalises the gradient of each tensor.
        lr: learning rate.
        engine: one of ENGINES.
        objective: one of `vampyro.objectives`, or an ELBO of Pyro; `Trace_ELBO()` if None. The parameters of an
            objective that is an `nn.Module` are trained too.
        reduce: combines the gradients of several processes (`Processes(...).reduce`).

    Returns:
        update: x (batch, channels, height, width) → {"loss": scalar tensor in nats per image, …}, with methods
        `set_lr(lr)`, and `state_dict()` and `load_state_dict(state)` for the state of the optimiser.

    Raises:
        ValueError: the optimizer or the engine is unknown, the objective does not support the engine, or the engine is
            `graph` and the programs are not on CUDA.
        TypeError: both programs are functions and the engine is not `svi`, or the objective lacks a method that the
            engine needs.

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
        raise ValueError(
            f"engine graph needs CUDA, and the program is on {weight.device.type}: choose eager or compiled"
        )
    if isinstance(objective, torch.nn.Module):
        objective.to(weight.device)
    objective = objective or Trace_ELBO()
    ours = objective if isinstance(objective, Objective) else None
    asked = "reference" if engine == "svi" else "differentiable_loss"  # as Pyro's own estimators have it
    has = ours and ours.reference() is not None if engine == "svi" else isinstance(objective, Differentiable)
    if not isinstance(objective, Introspective) and not has:
        raise TypeError(
            f"engine {engine} needs a method {asked} of the objective, and {objective!r} has none: use "
            "IWAE(5), for example"
        )
    if engine not in (engines := ours and ours.engines or ENGINES):
        raise ValueError(f"{type(objective).__name__} trains by engine {' or '.join(engines)}, not by {engine!r}")
    step = IntrospectiveStep if isinstance(objective, Introspective) else ENGINES[engine]
    return step(model, guide, weight, optimizer, lr, objective, reduce)
