"""Plain torch modules under Pyro's own trainer."""

from itertools import count

import pyro

_numbers = count()


def registered(program):
    """The same program with its parameters in Pyro's store, for `pyro.infer.SVI`.

    `SVI.step` finds parameters through `pyro.module` statements and trains nothing, silently, where
    there are none. Each call registers under a name of its own, so that any number of programs
    train in one process and no store need ever be cleared.

    Args:
        program: an `nn.Module` that is a Pyro model or guide.

    >>> import torch, pyro, nets; from pyro.infer import SVI, Trace_ELBO
    >>> from models import VAE; from guides import Guide; from priors import StandardNormal
    >>> decoder = torch.nn.Sequential(nets.MLP((2,), (8,)), nets.BernoulliHead(8, (1, 4, 4)))
    >>> model, guide = VAE(StandardNormal(2), decoder), Guide(nets.MLP((1, 4, 4), (8,)), nets.NormalHead(8, 2))
    >>> svi = SVI(registered(model), registered(guide), pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    >>> svi.step(torch.zeros(5, 1, 4, 4)) > 0
    True
    """
    name = f"{type(program).__name__}-{next(_numbers)}"

    def program_with_parameters(*args, **kwargs):
        pyro.module(name, program)
        return program(*args, **kwargs)

    return program_with_parameters
