"""Heads: the last layer, from features h to a distribution."""

import math

import pyro.distributions as dist
from torch import nn

from distributions import DiagonalNormal

# The log-variances that Tomczak & Welling (2018) allow; q(z | x) and a VampPrior's components are
# the same function, so the same bounds hold for both.
LOG_VARIANCE = (-6.0, 2.0)


class NormalHead(nn.Module):
    """h → N(loc(h), diag(scale(h)²)), both linear in h, log scale² kept in [-6, 2].

    forward: (..., features) → DiagonalNormal, batch shape (...), event shape (latent,).

    >>> import torch
    >>> NormalHead(300, 40)
    NormalHead(300 → 40)
    >>> NormalHead(300, 40)(torch.zeros(7, 300))
    DiagonalNormal(batch 7, event 40)
    """

    def __init__(self, features, latent):
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent)

    def forward(self, h):
        loc, log_variance = self.linear(h).chunk(2, -1)
        return DiagonalNormal(loc, (0.5 * log_variance.clamp(*LOG_VARIANCE)).exp())

    def __repr__(self):
        return f"NormalHead({self.linear.in_features} → {self.linear.out_features // 2})"


class BernoulliHead(nn.Module):
    """h → Π_pixels Ber(x; σ(logit(h))), linear logits.

    forward: (..., features) → distribution over images, batch shape (...), event shape `shape`.

    >>> import torch
    >>> BernoulliHead(300, (1, 28, 28))
    BernoulliHead(300 → 1×28×28)
    >>> BernoulliHead(300, (1, 28, 28))(torch.zeros(7, 300)).event_shape
    torch.Size([1, 28, 28])
    """

    def __init__(self, features, shape):
        super().__init__()
        self.shape = tuple(shape)
        self.linear = nn.Linear(features, math.prod(self.shape))

    def forward(self, h):
        return dist.Bernoulli(logits=self.linear(h).unflatten(-1, self.shape)).to_event(len(self.shape))

    def __repr__(self):
        return f"BernoulliHead({self.linear.in_features} → {'×'.join(map(str, self.shape))})"
