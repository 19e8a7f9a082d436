"""Heads of decoders: the last layer, from features h to a distribution over images."""

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vampyro.distributions import ContinuousBernoulli, DiscretisedLogistic, LinearBernoulli
from vampyro.distributions.base import times
from vampyro.nets.heads import Head

# The logarithms of the smallest and of the largest scale that Tomczak & Welling (2018, arXiv:1705.07120) allow.
LOG_SCALE = (-4.5, 0.0)


class ToImage(nn.Linear):
    """y_i = A_i h + a_i, `count` images of numbers, linear in the features.

    Args:
        features: an int, the length of a vector: every pixel has its own row of weights. Or the shape
            (channels, height, width) of a feature map: all pixels share the weights of a 1×1 convolution.
        shape: of an image, (channels, height, width).

    forward: (..., features) or (..., *features) → a tuple of `count` tensors (..., *shape).

    Raises:
        ValueError: where a feature map has another height or width than the image.

    >>> [y.shape for y in ToImage((64, 28, 28), (3, 28, 28), count=2)(torch.zeros(5, 64, 28, 28))]
    [torch.Size([5, 3, 28, 28]), torch.Size([5, 3, 28, 28])]
    """

    def __init__(self, features: Any, shape: Sequence[int], count: int = 1):
        shape, is_map = tuple(shape), not isinstance(features, int)
        if is_map and tuple(features[1:]) != shape[1:]:
            raise ValueError(f"a feature map {tuple(features)} cannot become an image {shape}: their sizes differ")
        super().__init__(features[0] if is_map else features, count * (shape[0] if is_map else math.prod(shape)))
        self.features, self.shape, self.count, self.is_map = features, shape, count, is_map

    def forward(self, h: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        if self.is_map:
            pixels = h.flatten(-2)
            # Expanded here: matmul would transpose the maps instead, which takes four times as long as the products.
            weight = self.weight.expand(*pixels.shape[:-2], -1, -1)
            y = (weight @ pixels + self.bias.unsqueeze(-1)).flatten(-2)
        else:
            y = super().forward(h)
        return y.unflatten(-1, (self.count, *self.shape)).unbind(-1 - len(self.shape))

    def extra_repr(self) -> str:
        return f"{times(self.features if self.is_map else [self.features])} → {times(self.shape)}"


class ImageHead(Head):
    """A head over images whose pixels are independent, each with `numbers` parameters linear in h.

    A subclass computes `pixels`, a distribution without events. The arguments are those of `ToImage`.

    forward: (..., features) or (..., *map) → distribution, batch shape (...), event shape `shape`.
    """

    numbers = 1

    def __init__(self, features: int | Sequence[int], shape: Sequence[int]):
        super().__init__()
        self.linear = ToImage(features, shape, self.numbers)

    def pixels(self, *numbers: Tensor) -> Any:
        raise NotImplementedError

    def forward(self, h: Tensor) -> Distribution:
        return self.pixels(*self.linear(h)).to_event(len(self.linear.shape))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.linear.extra_repr()}{self.extra_repr()})"


class BernoulliHead(ImageHead):
    """h → Π_pixels Ber(x; σ(logit(h))), linear logits; x is binary.

    >>> BernoulliHead(300, (1, 28, 28)), BernoulliHead(300, (1, 28, 28))(torch.zeros(7, 300)).event_shape
    (BernoulliHead(300 → 1×28×28), torch.Size([1, 28, 28]))
    """

    def forward(self, h: Tensor) -> Distribution:
        linear = self.linear
        return super().forward(h) if linear.is_map else LinearBernoulli(h, linear.weight, linear.bias, linear.shape)

    def pixels(self, *numbers: Tensor) -> Any:
        return dist.Bernoulli(logits=numbers[0])


class ContinuousBernoulliHead(ImageHead):
    """h → Π_pixels C(λ) λ^x (1 - λ)^(1-x), logit λ linear in h; x is grey, in [0, 1].

    Loaiza-Ganem & Cunningham 2019 (arXiv:1907.06845): C(λ) makes a density of the cross-entropy, so `log_prob` may be
    positive. It is in nats per image as any other, and compares with the densities of x only.

    >>> ContinuousBernoulliHead((64, 28, 28), (1, 28, 28))
    ContinuousBernoulliHead(64×28×28 → 1×28×28)
    """

    def pixels(self, *numbers: Tensor) -> Any:
        return ContinuousBernoulli(numbers[0])


class NormalImageHead(ImageHead):
    """h → Π_pixels N(x; loc, scale²), loc = σ(linear(h)) in (0, 1), one scale for all pixels; x is grey.

    With scale 1, -log p = ½ ‖x - loc‖² + const: the squared error. With `learned=True` the scale is a parameter that
    starts at 1, as in the σ-VAE of Rybkin et al. 2021 (arXiv:2006.13202).

    >>> NormalImageHead(300, (1, 28, 28)), NormalImageHead(300, (1, 28, 28), learned=True)
    (NormalImageHead(300 → 1×28×28, scale 1), NormalImageHead(300 → 1×28×28, learned scale))
    """

    def __init__(self, features: int | Sequence[int], shape: Sequence[int], learned: bool = False):
        super().__init__(features, shape)
        self.learned = learned
        if learned:
            self.log_scale = nn.Parameter(torch.zeros(()))
        else:
            self.register_buffer("log_scale", torch.zeros(()))

    def pixels(self, *numbers: Tensor) -> Any:
        return dist.Normal(numbers[0].sigmoid(), self.log_scale.exp())

    def extra_repr(self) -> str:
        return ", learned scale" if self.learned else ", scale 1"


class LogisticHead(ImageHead):
    """h → Π_pixels DiscretisedLogistic(x; loc(h), scale(h)), for the 256 grey levels 0, 1/255, …, 1.

    loc = ½ + linear(h), unbounded. In (0, 1) a pixel that is always black would cost 0.6 nats at the smallest scale.
    log scale = -4.5 σ(linear(h)) in (-4.5, 0), the bounds of the VampPrior paper. Its clamp has no gradient outside.

    >>> LogisticHead(300, (1, 28, 28))
    LogisticHead(300 → 1×28×28)
    """

    numbers = 2

    def pixels(self, *numbers: Tensor) -> Any:
        loc, log_scale = numbers
        low, high = LOG_SCALE
        scale = (high + (low - high) * log_scale.sigmoid()).exp()
        return DiscretisedLogistic(0.5 + loc, scale)
