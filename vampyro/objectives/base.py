"""What a training objective is."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import pyro.infer
from torch import Tensor


@runtime_checkable
class Differentiable(Protocol):
    """What every engine but `svi` asks for, as Pyro's own estimators have it too."""

    def differentiable_loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor: ...


class Objective:
    """What training minimises: a scalar loss whose gradient is that of the parameters of model and guide.

    A subclass computes `differentiable_loss`, summed over images. One with parameters of its own (a baseline) is an
    `nn.Module` too, and they are trained and saved with the others.

    >>> import torch; from pyro import poutine; from vampyro import assemble
    >>> class Reconstruction(Objective):
    ...     def differentiable_loss(self, model, guide, x):
    ...         codes = poutine.trace(guide).get_trace(x)
    ...         return -poutine.trace(poutine.replay(model, codes)).get_trace(x).nodes["x"]["fn"].log_prob(x).sum()
    >>> programs = assemble(hidden=(8,), latent=2, shape=(1, 4, 4))
    >>> Reconstruction().differentiable_loss(*programs, torch.zeros(5, 1, 4, 4)).shape
    torch.Size([])
    """

    engines: tuple[str, ...] | None = None  # those that can train it; None: all

    def differentiable_loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        raise NotImplementedError

    def reference(self) -> "Objective | pyro.infer.ELBO | None":
        """Its counterpart in stock Pyro, for engine `svi`; None: there is none."""
        return None
