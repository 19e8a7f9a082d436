"""Update parts that do not learn by gradients, such as codebooks."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor

from vampyro.nets import Learner
from vampyro.training.distributed import ProcessError


class UpdateLearners:
    """Call `learn` of every part of a guide that is a `nets.Learner`, after each step of the optimiser.

    `part.learn(*inputs)` receives the current inputs of the part for the same images and updates its buffers in place.
    For example, a codebook follows its encoder this way. For a guide without such parts the call does nothing.

    Args:
        guide: a Pyro program; only an `nn.Module` can have such parts.
        reduce: the gradient reduction of several processes, or None.

    Raises:
        ProcessError: the guide has such a part and there are several processes; each would learn its own buffers.

    >>> from vampyro import assemble
    >>> model, guide = assemble(posterior="vq:16", hidden=(8,), latent=8, shape=(1, 4, 4))
    >>> UpdateLearners(guide)(torch.rand(50, 1, 4, 4))
    >>> guide.head.counts.unique()                       # the 100 vectors, divided by 16 codes
    tensor([6.2500])
    """

    def __init__(self, guide: Any, reduce: Callable | None = None) -> None:
        parts = guide.modules() if isinstance(guide, torch.nn.Module) else ()
        self.guide, self.parts = guide, [part for part in parts if isinstance(part, Learner)]
        if self.parts and reduce is not None:
            names = ", ".join(type(part).__name__ for part in self.parts)
            raise ProcessError(
                f"{names} does not learn by gradients, and several processes share only gradients: start one process, "
                "without torchrun"
            )

    @torch.no_grad()
    def __call__(self, x: Tensor) -> None:
        if not self.parts:
            return
        hooks = [part.register_forward_pre_hook(_learn) for part in self.parts]
        try:
            with pyro.validation_enabled(False):
                self.guide(x)
        finally:
            for hook in hooks:
                hook.remove()


def _learn(part, inputs):
    part.learn(*inputs)
