"""Networks that take a label next to an image, and next to a latent."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from vampyro.distributions import LabelledImages
from vampyro.distributions.labelled import split
from vampyro.distributions.shapes import check_shape
from vampyro.nets.mlp import MLP


def beside(h: Float[Tensor, "*#batch features"], y: Float[Tensor, "*#batch classes"]) -> Float[Tensor, "*all wider"]:
    """[h, √n y], h of n elements: a one-hot label is as large as h, so that networks use it from the start."""
    batch = torch.broadcast_shapes(h.shape[:-1], y.shape[:-1])
    return torch.cat([h.expand(*batch, -1), h.shape[-1] ** 0.5 * y.expand(*batch, -1)], -1)


class ConditionalEncoder(nn.Module):
    """h = layer([f, √n y]), f = body(x), n = dim f, of an image x and its label y   (Sohn et al. 2015, NIPS 28).

    The label need not be one-hot: a VampPrior learns labels in (0, 1) with its pseudo-inputs.

    forward: (..., pixels + classes), as `vampyro.distributions.labelled.join` makes it, → (..., features).

    >>> ConditionalEncoder(MLP((1, 28, 28), (300,)), (1, 28, 28), classes=10)
    ConditionalEncoder(MLP(1×28×28 → 300, gated), 10 classes → MLP(310 → 300, gated))
    """

    def __init__(self, body: Any, shape: Sequence[int], classes: int, activation: str = "gated"):
        super().__init__()
        self.body, self.shape, self.classes, self.features = body, tuple(shape), classes, body.features
        self.joint = MLP((body.features + classes,), (body.features,), activation)

    def forward(self, xy: Tensor) -> Float[Tensor, "*batch features"]:
        x, y = split(check_shape(xy, (math.prod(self.shape) + self.classes,), "images with labels"), self.shape)
        return self.joint(beside(self.body(x), y))

    def __repr__(self) -> str:
        return f"ConditionalEncoder({self.body}, {self.classes} classes → {self.joint})"


class ConditionalDecoder(nn.Module):
    """z → p(x | z, y) for every label y, a network of [z, √n y], n = dim z   (Kingma et al. 2014, arXiv:1406.5298).

    The label enters the first layer. Before the last layer it was hardly used: z had the class.

    Args:
        images: [z, √n y] → a distribution over images, event shape `shape` (channels, height, width).

    forward: z, or a tuple of latents, the first of which is joined with y, → LabelledImages with the labels `y`, or
    random ones.

    >>> from vampyro import nets
    >>> images = nn.Sequential(MLP((40 + 10,), (300,)), nets.BernoulliHead(300, (1, 28, 28)))
    >>> p = ConditionalDecoder(images, (1, 28, 28), classes=10)(torch.randn(7, 40))
    >>> p, p.given(3).event_shape
    (LabelledImages(batch 7, images 1×28×28, 10 classes), torch.Size([1, 28, 28]))
    """

    def __init__(self, images: Callable[[Any], Distribution], shape: Sequence[int], classes: int):
        super().__init__()
        self.images, self.shape, self.classes = images, tuple(shape), classes

    def forward(self, z: Tensor | tuple[Tensor, ...], y: Any = None) -> LabelledImages:
        first, *others = z if isinstance(z, tuple) else (z,)

        def decode(z, y):
            z = beside(z, y)
            return self.images((z, *others) if others else z)

        return LabelledImages(decode, first, self.shape, self.classes, y)
