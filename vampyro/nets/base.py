"""The contracts of heads, and of parts that do not learn by gradients."""

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """The last layer of an encoder or a decoder: features (..., features), or (..., *map), → a distribution of batch
    shape (...).

    A subclass computes that in `forward`. Any other module that does is a head too, without a codebook.

    >>> import pyro.distributions as dist
    >>> class LaplaceHead(Head):
    ...     def forward(self, h):
    ...         return dist.Laplace(h, 1.0).to_event(1)
    >>> LaplaceHead()(torch.zeros(7, 3)).event_shape, LaplaceHead().codebook()
    (torch.Size([3]), None)
    """

    def forward(self, h: Tensor) -> torch.distributions.Distribution:
        raise NotImplementedError

    def codebook(self) -> Tensor | None:
        """The codes (K, d) that its latents are made of, which a prior uses too; None where there are none."""
        return None


class Learner(nn.Module):
    """A part of a guide whose buffers do not learn by gradients: after each optimiser step the engine calls `learn`
    with the present inputs of `forward` for the same images.

    >>> class Centred(Learner):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.register_buffer("mean", torch.zeros(()))
    ...     def forward(self, h):
    ...         return h - self.mean
    ...     def learn(self, h):
    ...         self.mean.lerp_(h.mean(), 0.1)
    >>> part = Centred(); part.learn(torch.ones(7, 3)); part.mean
    tensor(0.1000)
    """

    def learn(self, *inputs: Tensor) -> None:
        """Change the buffers in place; without gradients, and without waiting for a device."""
        raise NotImplementedError
