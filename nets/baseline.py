"""What a score function is measured against."""

import math

from torch import nn

from nets.mlp import MLP


class Baseline(nn.Module):
    """x → b(x), a guess at each latent's share of the ELBO: `count` numbers, in nats.

    Args:
        shape: of an image.
        count: of latents.

    forward: (batch, *shape) → (batch, count).

    >>> Baseline((1, 28, 28), 2)
    Baseline(1×28×28 → 2)
    """

    def __init__(self, shape, count, hidden=(100,)):
        super().__init__()
        self.body = MLP(shape, hidden, "tanh")
        self.linear = nn.Linear(self.body.features, count)
        self.scale = math.prod(shape) / 10

    def forward(self, x):
        return self.scale * self.linear(self.body(x))

    def __repr__(self):
        return f"Baseline({'×'.join(map(str, self.body.shape))} → {self.linear.out_features})"
