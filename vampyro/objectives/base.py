"""The base class of training objectives."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import pyro.infer
from torch import Tensor


@runtime_checkable
class Differentiable(Protocol):
    """An objective for every engine except `svi`; Pyro's own estimators are such objectives, too."""

    def differentiable_loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor: ...


class Objective:
    """A scalar loss that training minimises, differentiable with respect to the parameters of model and guide.

    A subclass computes `differentiable_loss`, summed over images. A subclass with parameters (a baseline) is also an
    `nn.Module`; its parameters are trained and saved with those of model and guide.

    >>> import torch; from pyro import poutine; from vampyro import assemble
    >>> class Reconstruction(Objective):
    ...     def differentiable_loss(self, model, guide, x):
    ...         codes = poutine.trace(guide).get_trace(x)
    ...         return -poutine.trace(poutine.replay(model, codes)).get_trace(x).nodes["x"]["fn"].log_prob(x).sum()
    >>> programs = assemble(hidden=(8,), latent=2, shape=(1, 4, 4))
    >>> Reconstruction().differentiable_loss(*programs, torch.zeros(5, 1, 4, 4)).shape
    torch.Size([])
    """

    engines: tuple[str, ...] | None = None  # the engines that can train it; None for all

    def differentiable_loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        raise NotImplementedError

    def reference(self) -> "Objective | pyro.infer.ELBO | None":
        """Return the corresponding estimator of stock Pyro, for engine `svi`, or None."""
        return None
