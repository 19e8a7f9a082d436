"""Plain torch modules under Pyro's own trainer."""

from weakref import WeakValueDictionary

import pyro
from pyro.params.param_store import param_with_module_name
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

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

    >>> import torch, pyro, nets; from pyro.infer import SVI, Trace_ELBO
    >>> from models import VAE; from guides import Guide; from priors import StandardNormal
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
