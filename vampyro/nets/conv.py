"""Convolutional encoders and decoders: those of the VampPrior paper (arXiv:1705.07120), and small ones."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vampyro.distributions.base import times
from vampyro.distributions.shapes import check_shape
from vampyro.nets.mlp import MLP, activation_layer

HALVING = {"kernel_size": 3, "stride": 2, "padding": 1}
DOUBLING = {"kernel_size": 4, "stride": 2, "padding": 1}  # of a transposed convolution


def image_by_image(
    layers: Callable[[Tensor], Tensor], x: Float[Tensor, "*batch channels height width"]
) -> Float[Tensor, "*batch maps height2 width2"]:
    """layers(x) with any number of dimensions left of (channels, height, width)."""
    images = x.reshape(-1, *x.shape[-3:])
    if torch.is_grad_enabled():
        y = layers(images)
    else:  # Feature maps are large. Without gradients they are made for some images at a time.
        y = torch.cat([layers(part) for part in images.split(1024)])
    return y.reshape(*x.shape[:-3], *y.shape[1:])


class ConvEncoder(nn.Module):
    """h = flatten(conv₅(… conv₁(x))): 32 channels 7×7, 32 3×3 halving, 64 5×5, 64 3×3 halving, 6 3×3.

    The arguments are those of `MLP`; `shape` is (channels, height, width), and `hidden` is not used.

    forward: (..., *shape) → (..., features), features = 6 ⌈height/4⌉ ⌈width/4⌉.

    >>> ConvEncoder((1, 28, 28))
    ConvEncoder(1×28×28 → 294, gated)
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int] | None = None,
        activation: str = "gated",
        final: str | None = None,
    ):
        super().__init__()
        self.shape, self.activation, self.layers = tuple(shape), activation, nn.Sequential()
        channels, height, width = self.shape
        names = [activation] * 4 + [final or activation]
        for name, (outputs, kernel, stride) in zip(names, ((32, 7, 1), (32, 3, 2), (64, 5, 1), (64, 3, 2), (6, 3, 1))):
            size = {"kernel_size": kernel, "stride": stride, "padding": kernel // 2}
            self.layers.append(activation_layer(nn.Conv2d, channels, outputs, name, **size))
            channels = outputs
        self.features = channels * math.ceil(height / 4) * math.ceil(width / 4)

    def forward(self, x: Tensor) -> Float[Tensor, "*batch features"]:
        return image_by_image(self.layers, check_shape(x, self.shape, like=self)).flatten(-3)

    def __repr__(self) -> str:
        return f"ConvEncoder({times(self.shape)} → {self.features}, {self.activation})"


class ConvDecoder(nn.Module):
    """y = conv₄(… conv₁(image(h))): a layer as wide as the image has pixels, then four of 64 channels 3×3.

    Every convolution is at full resolution: at batch 100 and 28×28 a step takes 1.2 s on one thread of a CPU, where an
    MLP takes 4 ms and `SmallConvDecoder` 0.1 s.

    forward: (..., features) → a feature map (..., 64, height, width), for `shape` (channels, height, width).

    >>> ConvDecoder(300, (1, 28, 28))
    ConvDecoder(300 → 64×28×28, gated)
    """

    def __init__(self, features: int, shape: Sequence[int], activation: str = "gated"):
        super().__init__()
        self.inputs, self.shape, self.activation = features, tuple(shape), activation
        channels, height, width = self.shape
        self.image = activation_layer(nn.Linear, features, math.prod(self.shape), activation)
        self.layers = nn.Sequential(
            *(activation_layer(nn.Conv2d, c, 64, activation, kernel_size=3, padding=1) for c in (channels, 64, 64, 64))
        )
        self.features = (64, height, width)

    def forward(self, h: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch maps height width"]:
        return image_by_image(self.layers, self.image(h).unflatten(-1, self.shape))

    def __repr__(self) -> str:
        return f"ConvDecoder({self.inputs} → {times(self.features)}, {self.activation})"


class SmallConvEncoder(nn.Module):
    """h = MLP(conv₂(conv₁(x))): 32 and 64 channels, 3×3, each halving the image, then dense layers.

    The arguments and the shapes are those of `MLP`; `shape` is (channels, height, width).

    >>> SmallConvEncoder((1, 28, 28), (256,), "leaky-relu")
    SmallConvEncoder(1×28×28 → 64×7×7 → 256, leaky-relu)
    """

    def __init__(
        self, shape: Sequence[int], hidden: Sequence[int] = (300,), activation: str = "gated", final: str | None = None
    ):
        super().__init__()
        self.shape = tuple(shape)
        channels, height, width = self.shape
        self.layers = nn.Sequential(
            *(activation_layer(nn.Conv2d, *c, activation, **HALVING) for c in ((channels, 32), (32, 64)))
        )
        self.dense = MLP((64, math.ceil(height / 4), math.ceil(width / 4)), hidden, activation, final)
        self.features = self.dense.features

    def forward(self, x: Tensor) -> Float[Tensor, "*batch features"]:
        return self.dense(image_by_image(self.layers, check_shape(x, self.shape, like=self)))

    def __repr__(self) -> str:
        return repr(self.dense).replace("MLP(", f"SmallConvEncoder({times(self.shape)} → ")


class SmallConvDecoder(nn.Module):
    """y = double₂(double₁(map(h))): a dense layer to 64 channels at a quarter of the size, then twice the double size.

    Doubling is a transposed convolution of 4×4 and stride 2, to 32 channels. Its kernel is a multiple of its stride, so
    that there is no checkerboard. The last row or column is dropped where the size is odd.

    forward: (..., features) → a feature map (..., 32, height, width), for `shape` (channels, height, width).

    >>> SmallConvDecoder(256, (1, 28, 28), "leaky-relu")
    SmallConvDecoder(256 → 64×7×7 → 32×28×28, leaky-relu)
    """

    def __init__(self, features: int, shape: Sequence[int], activation: str = "gated"):
        super().__init__()
        self.inputs, self.activation = features, activation
        quarter, *self.sizes = ([math.ceil(length / n) for length in shape[1:]] for n in (4, 2, 1))
        self.small, self.features = (64, *quarter), (32, *self.sizes[-1])
        self.dense = activation_layer(nn.Linear, features, math.prod(self.small), activation)
        self.layers = nn.Sequential(
            *(activation_layer(nn.ConvTranspose2d, c, 32, activation, **DOUBLING) for c in (64, 32))
        )

    def double_size(self, y: Tensor) -> Tensor:
        for layer, (height, width) in zip(self.layers, self.sizes):
            y = layer(y)[..., :height, :width]
        return y

    def forward(self, h: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch maps height width"]:
        return image_by_image(self.double_size, self.dense(h).unflatten(-1, self.small))

    def __repr__(self) -> str:
        return f"SmallConvDecoder({self.inputs} → {times(self.small)} → {times(self.features)}, {self.activation})"
