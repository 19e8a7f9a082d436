"""Multi-layer perceptrons: the body of an encoder or a decoder."""

import math

from torch import nn

from nets.activations import activated


class MLP(nn.Module):
    """h = layer_n(… layer_1(x)), each layer a linear map and its activation.

    The default activation is the gated linear unit (A x + a) ⊙ σ(B x + b), which the VampPrior paper
    (arXiv:1705.07120) uses throughout.

    Args:
        shape: of one input, (channels, height, width) or (latent,); flattened.
        hidden: widths of the layers, at least one.
        activation: one of `nets.activations.ACTIVATIONS`.

    forward: (..., *shape) → (..., hidden[-1]), any batch or particle dimensions on the left.

    >>> MLP((1, 28, 28), (300, 300))
    MLP(1×28×28 → 300 → 300, gated)
    """

    def __init__(self, shape, hidden=(300, 300), activation="gated"):
        super().__init__()
        self.shape, self.hidden, self.activation = tuple(shape), tuple(hidden), activation
        sizes = [math.prod(self.shape), *self.hidden]
        self.layers = nn.Sequential(*(activated(nn.Linear, i, o, activation) for i, o in zip(sizes, sizes[1:])))

    @property
    def features(self):
        return self.hidden[-1]

    def forward(self, x):
        return self.layers(x.flatten(-len(self.shape)))

    def __repr__(self):
        widths = " → ".join(map(str, self.hidden))
        return f"MLP({'×'.join(map(str, self.shape))} → {widths}, {self.activation})"
