"""Stock Pyro's SVI as a training engine, and plain torch modules under it."""

import logging
from typing import Any, cast
from weakref import WeakValueDictionary

import pyro
import pyro.infer
import pyro.optim
import torch
from pyro.params.param_store import param_with_module_name
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from vampyro.objectives import ScaleLatents
from vampyro.programs.checks import check_trained, foreign_sites, watched
from vampyro.training.engines.codebook_update import Learning
from vampyro.training.engines.eager import learnt, trained
from vampyro.training.engines.optimizers import OPTIMIZERS

_programs: WeakValueDictionary = WeakValueDictionary()  # name → the program that has it


_placed = WeakTensorKeyDictionary()  # parameters that a registered program has put in Pyro's store


def registered(program: nn.Module, name: str | None = None):
    """The same program with its parameters in Pyro's store, for `pyro.infer.SVI`.

    `SVI.step` finds parameters through `pyro.module` statements. Without any it trains nothing, silently.

    Parameters are stored as NAME$$$PARAMETER. If Pyro's store holds values of that name when the program runs, after
    `pyro.get_param_store().load(FILE)` for example, the program takes them and trains on from them.

    Args:
        program: an `nn.Module` that is a Pyro model or guide.
        name: in Pyro's store; the class's name unless given. A second program of one class in one process is called
            CLASS-2, and so on: name both where their values are to be loaded again.

    Raises:
        TypeError: where the program is not an `nn.Module`.
        ValueError: where another program has that name.

    >>> import torch, pyro; from vampyro import nets; from pyro.infer import SVI, Trace_ELBO
    >>> from vampyro.models import VAE; from vampyro.guides import Guide; from vampyro.priors import StandardNormal
    >>> decoder = torch.nn.Sequential(nets.MLP((2,), (8,)), nets.BernoulliHead(8, (1, 4, 4)))
    >>> model, guide = VAE(StandardNormal(2), decoder), Guide(nets.MLP((1, 4, 4), (8,)), nets.NormalHead(8, 2))
    >>> svi = SVI(registered(model), registered(guide), pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    >>> svi.step(torch.zeros(5, 1, 4, 4)) > 0
    True
    """
    if not isinstance(program, nn.Module):
        raise TypeError(
            f"program is a {type(program).__name__}, expected an nn.Module; a function with pyro.module or pyro.param "
            "statements trains under pyro.infer.SVI as it is"
        )
    name = _name(program, name)

    def program_with_parameters(*args, **kwargs):
        _take_stored_values(name, program)
        pyro.module(name, program)
        return program(*args, **kwargs)

    return program_with_parameters


def _name(program, wanted):
    """The name that the program has from now on: the same each time it is registered."""
    for name, other in _programs.items():
        if other is program and wanted in (None, name):
            return name
    name, number = wanted or type(program).__name__, 1
    while name in _programs:
        if wanted:
            raise ValueError(f"name {wanted!r} is that of another program in this process: choose another name")
        number += 1
        name = f"{type(program).__name__}-{number}"
    _programs[name] = program
    return name


def _take_stored_values(name, program):
    """Let each parameter have the value that Pyro's store holds for it, and the store hold the parameter itself.

    A tensor in the store that a registered program put there itself is no loaded value: it is left from an earlier
    program of that name.
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
                    f"Pyro's store holds {full!r} of shape {tuple(value.shape)}, expected {tuple(parameter.shape)}: "
                    "it was saved for a program of another architecture"
                )
            parameter.data.copy_(value.data)
        if not parameter.requires_grad:
            continue
        if value is not None:
            del store[full]
        parameter.data = parameter.data.contiguous()  # the store would keep a copy of any other
        store.setdefault(full, parameter)
        _placed[parameter] = True


def stored(program):
    """The program with its parameters in Pyro's store; a function puts its own there."""
    return registered(program) if isinstance(program, torch.nn.Module) else program


class SVIStep:
    """A step of stock Pyro, `SVI(…, Trace_ELBO()).step` for example: the reference for every other engine.

    What a function trains is in Pyro's store alone: save it with `pyro.get_param_store().save(FILE)`.
    """

    def __init__(self, model, guide, weight, optimizer, lr, objective, reduce=None):
        if reduce is not None:
            raise ValueError("engine svi is stock Pyro, which trains in one process: choose eager or compiled")
        self.constructor, self.lr = OPTIMIZERS[optimizer], lr
        self.optimizer = pyro.optim.PyroOptim(self.constructor, {"lr": lr})
        self.program, self.learn = trained(model, guide, objective), Learning(guide)
        self.checked = False
        reference = objective.reference()
        differentiable = registered(reference) if len(self.program) > 2 else reference.differentiable_loss

        modules = all(isinstance(program, torch.nn.Module) for program in (model, guide))

        def loss(model, guide, x):
            # The mean over the batch, not its sum: Adam's epsilon, at least, can tell the two apart.
            if self.checked:
                return differentiable(model, guide, x) / len(x)
            with pyro.poutine.trace(param_only=True) as params:
                value = watched(lambda *pair: differentiable(*pair, x) / len(x), model, guide)
            if local := [n for n, site in params.trace.nodes.items() if not hasattr(site["value"], "unconstrained")]:
                raise ValueError(
                    f"engine 'svi' is stock SVI, which does not train {local[0]!r} under the setting "
                    "module_local_params=True: choose engine='eager', or make the PyroModules with the setting False"
                )
            # As stock Pyro finds what it trains: a program's own param sites too.
            check_trained(value, [cast(Any, site["value"]).unconstrained() for site in params.trace.nodes.values()])
            if modules and (own := foreign_sites(params.trace, self.program)):
                logging.getLogger(__name__).warning("only Pyro's store keeps param sites %s, no checkpoint", own)
            self.checked = True
            return value

        self.svi: Any = pyro.infer.SVI(  # type: ignore[call-arg]
            *(ScaleLatents(weight)(stored(program)) for program in (model, guide)), self.optimizer, loss
        )

    def __call__(self, x):
        loss = self.svi.step(x)
        self.learn(x)
        return {"loss": torch.tensor(loss, dtype=torch.float64)}

    def set_lr(self, lr):
        arguments: Any = self.optimizer.pt_optim_args
        arguments["lr"] = lr  # for parameters that it has not met
        for optimizer in self.optimizer.optim_objs.values():
            optimizer.param_groups[0]["lr"] = lr

    def state_dict(self):
        # Under our own parameters' names, as in every engine: a run may go on with another.
        return {
            name: self.optimizer.optim_objs[parameter].state_dict()["state"][0]
            for name, parameter in self.parameters.items()
            if parameter in self.optimizer.optim_objs
        } | learnt(self.program)

    @property
    def parameters(self):
        """{name: parameter}: modules' parameters under their own names, those of functions as Pyro's store has them."""
        parameters = dict(self.program.named_parameters())
        known = {id(parameter) for parameter in parameters.values()}
        stored = pyro.get_param_store().named_parameters()
        return parameters | {name: p for name, p in stored if id(p) not in known and p in self.optimizer.optim_objs}

    def load_state_dict(self, state):
        self.program[2:].load_state_dict(state.get("objective", {}))
        parameters = dict(pyro.get_param_store().named_parameters()) | dict(self.program.named_parameters())
        for name, parameter in parameters.items():
            if name not in state:
                continue
            optimizer = self.constructor([parameter], lr=self.lr)
            optimizer.load_state_dict(optimizer.state_dict() | {"state": {0: state[name]}})
            self.optimizer.grad_clip[parameter], self.optimizer.optim_objs[parameter] = None, optimizer
