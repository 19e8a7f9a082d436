"""A small convolutional encoder and decoder: two halvings, a dense layer, two doublings."""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from vampyro.distributions.shapes import check_shape
from vampyro.nets.conv import image_by_image
from vampyro.nets.mlp import MLP, activated


class SmallConvEncoder(nn.Module):
    """h = MLP(conv₂(conv₁(x))): 32 and 64 channels, 3×3, each halving the image, then dense layers.

    Args:
        shape: of one image, (channels, height, width), of any size.
        hidden: widths of the dense layers, at least one.
        activation: one of `vampyro.nets.mlp.ACTIVATIONS`.
        final: the last layer's, unless it is the same.

    forward: (..., *shape) → (..., hidden[-1]).

    >>> SmallConvEncoder((1, 28, 28), (256,), "leaky-relu")
    SmallConvEncoder(1×28×28 → 64×7×7 → 256, leaky-relu)
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int] = (300,),
        activation: str = "gated",
        final: str | None = None,
    ):
        super().__init__()
        self.shape = tuple(shape)
        channels, height, width = self.shape
        size = {"kernel_size": 3, "stride": 2, "padding": 1}
        self.layers = nn.Sequential(
            activated(nn.Conv2d, channels, 32, activation, **size), activated(nn.Conv2d, 32, 64, activation, **size)
        )
        self.dense = MLP((64, math.ceil(height / 4), math.ceil(width / 4)), hidden, activation, final)
        self.features = self.dense.features

    def forward(self, x: Tensor) -> Float[Tensor, "*batch features"]:
        return self.dense(image_by_image(self.layers, check_shape(x, self.shape, like=self)))

    def __repr__(self) -> str:
        return repr(self.dense).replace("MLP(", f"SmallConvEncoder({'×'.join(map(str, self.shape))} → ")


class SmallConvDecoder(nn.Module):
    """y = double₂(double₁(map(h))): a dense layer to 64 channels at a quarter of the size, and back to the whole.

    Doubling is a transposed convolution of 4×4 and stride 2, to 32 channels: its kernel is a multiple of its stride, so
    that all pixels see as many weights and there is no checkerboard, and it takes half the time of repeating pixels
    before a 3×3 convolution. The last row or column is dropped where the size is odd.

    Args:
        features: length of the vector h.
        shape: of one image, (channels, height, width), of any size.
        activation: one of `vampyro.nets.mlp.ACTIVATIONS`.

    forward: (..., features) → a feature map (..., 32, height, width).

    >>> SmallConvDecoder(256, (1, 28, 28), "leaky-relu")
    SmallConvDecoder(256 → 64×7×7 → 32×28×28, leaky-relu)
    """

    def __init__(self, features: int, shape: Sequence[int], activation: str = "gated"):
        super().__init__()
        self.inputs, self.activation = features, activation
        quarter, *self.sizes = ([math.ceil(length / n) for length in shape[1:]] for n in (4, 2, 1))
        self.small, self.features = (64, *quarter), (32, *self.sizes[-1])
        self.dense = activated(nn.Linear, features, math.prod(self.small), activation)
        size = {"kernel_size": 4, "stride": 2, "padding": 1}
        self.layers = nn.Sequential(
            *(activated(nn.ConvTranspose2d, channels, 32, activation, **size) for channels in (64, 32))
        )

    def doubled(self, y: Tensor) -> Tensor:
        for layer, (height, width) in zip(self.layers, self.sizes):
            y = layer(y)[..., :height, :width]
        return y

    def forward(self, h: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch maps height width"]:
        return image_by_image(self.doubled, self.dense(h).unflatten(-1, self.small))

    def __repr__(self) -> str:
        small, large = ("×".join(map(str, shape)) for shape in (self.small, self.features))
        return f"SmallConvDecoder({self.inputs} → {small} → {large}, {self.activation})"
