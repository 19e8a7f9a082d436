"""Multi-layer perceptrons: the body of an encoder or a decoder."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from distributions.shapes import check_shape
from nets.activations import activated


class MLP(nn.Module):
    """h = layer_n(… layer_1(x)), each layer a linear map and its activation.

    The default activation is the gated linear unit (A x + a) ⊙ σ(B x + b), which the VampPrior paper
    (arXiv:1705.07120) uses throughout.

    Args:
        shape: of one input, (channels, height, width) or (latent,); flattened.
        hidden: widths of the layers, at least one.
        activation: one of `nets.activations.ACTIVATIONS`.
        final: the last layer's, unless it is the same.

    forward: (..., *shape) → (..., hidden[-1]), any batch or particle dimensions on the left.

    Raises:
        ValueError: where an input has another shape.

    >>> MLP((1, 28, 28), (300, 300))
    MLP(1×28×28 → 300 → 300, gated)
    >>> MLP((1, 28, 28), (500, 500), "relu", final="tanh")
    MLP(1×28×28 → 500 → 500, relu, last tanh)
    """

    def __init__(self, shape, hidden=(300, 300), activation="gated", final=None):
        super().__init__()
        self.shape, self.hidden = tuple(shape), tuple(hidden)
        self.activations = [activation] * (len(self.hidden) - 1) + [final or activation]
        sizes = [math.prod(self.shape), *self.hidden]
        self.layers = nn.Sequential(
            *(activated(nn.Linear, i, o, name) for i, o, name in zip(sizes, sizes[1:], self.activations))
        )

    @property
    def features(self):
        return self.hidden[-1]

    def forward(self, x) -> Float[Tensor, "*batch features"]:
        x = check_shape(x, self.shape, "images" if len(self.shape) == 3 else "inputs", like=self)
        return self.layers(x.flatten(-len(self.shape)))

    def __repr__(self):
        widths = " → ".join(map(str, self.hidden))
        first, last = self.activations[0], self.activations[-1]
        kinds = first if first == last else f"{first}, last {last}"
        return f"MLP({'×'.join(map(str, self.shape))} → {widths}, {kinds})"
