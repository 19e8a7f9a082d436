"""Parts that learn otherwise than by gradients."""

import pyro
import torch

from vampyro.nets import Learner
from vampyro.training.distributed import ProcessError


class Learning:
    """After each step of the optimiser, lets those parts of a guide learn that are a `nets.Learner`.

    `part.learn(*inputs)` gets what the part is called with for the same images now, and moves its buffers in place: a
    codebook follows its encoder so. Without such parts it does nothing.

    Args:
        guide: a Pyro program; one that is not an `nn.Module` has no such parts.
        reduce: that of several processes, or None.

    Raises:
        ProcessError: where such a part meets several processes, each of which would learn its own.

    >>> from vampyro import assemble
    >>> model, guide = assemble(posterior="vq:16", hidden=(8,), latent=8, shape=(1, 4, 4))
    >>> Learning(guide)(torch.rand(50, 1, 4, 4))
    >>> guide.head.counts.unique()                       # each code starts with its share of the 100 vectors
    tensor([6.2500])
    """

    def __init__(self, guide, reduce=None):
        parts = guide.modules() if isinstance(guide, torch.nn.Module) else ()
        self.guide, self.parts = guide, [part for part in parts if isinstance(part, Learner)]
        if self.parts and reduce is not None:
            names = ", ".join(type(part).__name__ for part in self.parts)
            raise ProcessError(
                f"{names} learns otherwise than by gradients, which several processes do not share: "
                "each would learn its own; start one, without torchrun"
            )

    @torch.no_grad()
    def __call__(self, x):
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
