"""Stock Pyro's SVI as a training engine, and `register`, which makes plain torch modules work with it."""

import logging
from collections.abc import Callable
from typing import Any, cast
from weakref import WeakValueDictionary

import pyro
import pyro.infer
import pyro.optim
import torch
from pyro.params.param_store import param_with_module_name
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from vampyro.objectives import ScaleLatents
from vampyro.programs.checks import check_pair, check_trained, foreign_sites
from vampyro.training.engines.codebook_update import UpdateLearners
from vampyro.training.engines.eager import join_modules, objective_state
from vampyro.training.engines.optimizers import OPTIMIZERS

_programs: WeakValueDictionary = WeakValueDictionary()  # by name
_placed = WeakTensorKeyDictionary()  # parameters that a registered program has put into Pyro's store


def register(program: nn.Module, name: str | None = None) -> Callable[..., Any]:
    """Return the program with its parameters in Pyro's store, for `pyro.infer.SVI`.

    `SVI.step` finds parameters through `pyro.module` statements. Without them it trains nothing and does not warn.

    Parameters are stored as NAME$$$PARAMETER. If Pyro's store has values under these names when the program runs, for
    example after `pyro.get_param_store().load(FILE)`, the program takes these values.

    Args:
        program: an `nn.Module` that is a Pyro model or guide.
        name: the name in Pyro's store, by default that of the class. A second program of the same class is called
            CLASS-2, and so on. Name both if you want to load their values later.

    Raises:
        TypeError: the program is not an `nn.Module`.
        ValueError: another program has this name.

    >>> import torch, pyro; from vampyro import nets; from pyro.infer import SVI, Trace_ELBO
    >>> from vampyro.models import VAE; from vampyro.guides import Guide; from vampyro.priors import StandardNormal
    >>> decoder = torch.nn.Sequential(nets.MLP((2,), (8,)), nets.BernoulliHead(8, (1, 4, 4)))
    >>> model, guide = VAE(StandardNormal(2), decoder), Guide(nets.MLP((1, 4, 4), (8,)), nets.NormalHead(8, 2))
    >>> svi = SVI(register(model), register(guide), pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    >>> svi.step(torch.zeros(5, 1, 4, 4)) > 0
    True
    """
    if not isinstance(program, nn.Module):
        raise TypeError(
            f"program is a {type(program).__name__}, expected an nn.Module; pyro.infer.SVI trains a function with "
            "pyro.module or pyro.param statements directly"
        )
    name = _name(program, name)

    def program_with_parameters(*args, **kwargs):
        _take_stored_values(name, program)
        pyro.module(name, program)
        return program(*args, **kwargs)

    return program_with_parameters


def _name(program: nn.Module, wanted: str | None) -> str:
    """Return the name of the program, the same each time it is registered."""
    for name, other in _programs.items():
        if other is program and wanted in (None, name):
            return name
    name, number = wanted or type(program).__name__, 1
    while name in _programs:
        if wanted:
            raise ValueError(f"name {wanted!r} is used by another program in this process: choose another name")
        number += 1
        name = f"{type(program).__name__}-{number}"
    _programs[name] = program
    return name


def _take_stored_values(name: str, program: nn.Module) -> None:
    """Copy values from Pyro's store to the parameters, then put the parameters themselves into the store.

    A tensor that a registered program has put into the store is ignored: it belongs to an earlier program of this name.
    """
    store = pyro.get_param_store()
    stored = dict(store.named_parameters())
    for own, parameter in program.named_parameters():
        full = param_with_module_name(name, own)
        value = stored.get(full)
        if value is parameter:
            continue
        if value is not None and value not in _placed:
            if value.shape != parameter.shape:
                raise ValueError(
                    f"Pyro's store has {full!r} of shape {tuple(value.shape)}, expected {tuple(parameter.shape)}: it "
                    "was saved for another architecture"
                )
            parameter.data.copy_(value.data)
        if not parameter.requires_grad:
            continue
        if value is not None:
            del store[full]
        parameter.data = parameter.data.contiguous()  # the store would keep a copy of other tensors
        store.setdefault(full, parameter)
        _placed[parameter] = True


def _stored(program: Any) -> Callable[..., Any]:
    """Return the program with its parameters in Pyro's store. A function puts its own there."""
    return register(program) if isinstance(program, torch.nn.Module) else program


class SVIStep:
    """A step of stock Pyro, for example `SVI(…, Trace_ELBO()).step`. It is the reference for every other engine.

    The parameters of functions are in Pyro's store only: save them with `pyro.get_param_store().save(FILE)`.
    """

    def __init__(
        self,
        model: Any,
        guide: Any,
        weight: Tensor,
        optimizer: str,
        lr: float,
        objective: Any,
        reduce: Callable[..., dict[str, Tensor]] | None = None,
    ) -> None:
        if reduce is not None:
            raise ValueError("engine svi is stock Pyro and supports one process: choose eager or compiled")
        self.constructor, self.lr = OPTIMIZERS[optimizer], lr
        self.optimizer = pyro.optim.PyroOptim(self.constructor, {"lr": lr})
        self.program, self.learn = join_modules(model, guide, objective), UpdateLearners(guide)
        self.checked = False
        reference = objective.reference()
        differentiable = register(reference) if len(self.program) > 2 else reference.differentiable_loss
        modules = all(isinstance(program, torch.nn.Module) for program in (model, guide))

        def loss(model, guide, x):
            # The mean over the batch instead of the sum, because Adam's epsilon makes a difference.
            if self.checked:
                return differentiable(model, guide, x) / len(x)
            with pyro.poutine.trace(param_only=True) as params:
                value = check_pair(lambda *pair: differentiable(*pair, x) / len(x), model, guide)
            if local := [n for n, site in params.trace.nodes.items() if not hasattr(site["value"], "unconstrained")]:
                raise ValueError(
                    f"engine 'svi' is stock SVI, which does not train {local[0]!r} under the setting "
                    "module_local_params=True: choose engine='eager', or make the PyroModules with the setting False"
                )
            # Stock Pyro also trains param sites of the programs.
            check_trained(value, [cast(Any, site["value"]).unconstrained() for site in params.trace.nodes.values()])
            if modules and (own := foreign_sites(params.trace, self.program)):
                logging.getLogger(__name__).warning(
                    "checkpoints do not contain the param sites %s: save Pyro's store", own
                )
            self.checked = True
            return value

        self.svi: Any = pyro.infer.SVI(  # type: ignore[call-arg]
            *(ScaleLatents(weight)(_stored(program)) for program in (model, guide)), self.optimizer, loss
        )

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        loss = self.svi.step(x)
        self.learn(x)
        return {"loss": torch.tensor(loss, dtype=torch.float64)}

    def set_lr(self, lr: float) -> None:
        arguments: Any = self.optimizer.pt_optim_args
        arguments["lr"] = lr  # for parameters without an optimiser yet
        for optimizer in self.optimizer.optim_objs.values():
            optimizer.param_groups[0]["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        return {
            name: self.optimizer.optim_objs[parameter].state_dict()["state"][0]
            for name, parameter in self.parameters.items()
            if parameter in self.optimizer.optim_objs
        } | objective_state(self.program)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Parameters of modules by their own names, and those of functions by their names in Pyro's store."""
        parameters = dict(self.program.named_parameters())
        known = {id(parameter) for parameter in parameters.values()}
        stored = pyro.get_param_store().named_parameters()
        return parameters | {name: p for name, p in stored if id(p) not in known and p in self.optimizer.optim_objs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.program[2:].load_state_dict(state.get("objective", {}))
        parameters = dict(pyro.get_param_store().named_parameters()) | dict(self.program.named_parameters())
        for name, parameter in parameters.items():
            if name not in state:
                continue
            optimizer = self.constructor([parameter], lr=self.lr)
            optimizer.load_state_dict(optimizer.state_dict() | {"state": {0: state[name]}})
            self.optimizer.grad_clip[parameter], self.optimizer.optim_objs[parameter] = None, optimizer
