"""What heads are, and parts that learn otherwise than by gradients."""

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """The last layer of an encoder or a decoder: `forward(features)` returns a distribution, batch shape that of the
    features (..., features), or (..., *map) where they are a feature map.

    A subclass computes that. Any other module that does will be a head too, with the default of what else is here.

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
        """The codes (K, d) that its latents are made of, for a prior to borrow; None: they are made of none."""
        return None


class Learner(nn.Module):
    """A part of a guide whose buffers learn otherwise than by gradients: after each step of the optimiser the engine
    calls `learn` with what `forward` is called with for the same images now.

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
        """Move the buffers in place; without gradients, and without waiting for a device."""
        raise NotImplementedError
