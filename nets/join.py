"""Two inputs into one body."""

import torch
from torch import nn

from nets.mlp import MLP


class Join(nn.Module):
    """(x, y) → layer([body_x(x), body_y(y)]), as the VampPrior paper joins an image and a latent (arXiv:1705.07120).

    Args:
        first, second: bodies with vector features.
        hidden, activation: of the layers after the two have met.

    forward: a pair, whose batch dimensions broadcast, → (..., hidden[-1]). x is (batch, …) where y is
    (samples, batch, latent): it passes through its body once.

    >>> join = Join(MLP((1, 28, 28), (30,)), MLP((4,), (20,)), (10,))
    >>> join
    Join(MLP(1×28×28 → 30, gated), MLP(4 → 20, gated) → MLP(50 → 10, gated))
    >>> join((torch.zeros(7, 1, 28, 28), torch.zeros(5, 7, 4))).shape
    torch.Size([5, 7, 10])
    """

    def __init__(self, first, second, hidden=(300,), activation="gated"):
        super().__init__()
        self.first, self.second = first, second
        self.joint = MLP((first.features + second.features,), hidden, activation)

    @property
    def features(self):
        return self.joint.features

    def forward(self, pair):
        first, second = self.first(pair[0]), self.second(pair[1])
        batch = torch.broadcast_shapes(first.shape[:-1], second.shape[:-1])
        return self.joint(torch.cat([first.expand(*batch, -1), second.expand(*batch, -1)], -1))

    def __repr__(self):
        return f"Join({self.first}, {self.second} → {self.joint})"
