"""The last layer of a decoder: from features to the numbers that each pixel's distribution needs."""

import math

from torch import nn


class ToImage(nn.Linear):
    """y_i = A_i h + a_i, `count` images of numbers, linear in the features.

    Args:
        features: an int, the length of a vector: every pixel has a row of weights of its own. Or the shape
            (channels, height, width) of a feature map: all pixels share theirs, a 1×1 convolution.
        shape: of an image, (channels, height, width).
        count: of numbers for each pixel and channel.

    forward: (..., features) or (..., *features) → a tuple of `count` tensors (..., *shape).

    Raises:
        ValueError: where a feature map has another height or width than the image.

    >>> ToImage(300, (1, 28, 28))
    ToImage(300 → 1×28×28)
    >>> import torch
    >>> [y.shape for y in ToImage((64, 28, 28), (3, 28, 28), count=2)(torch.zeros(5, 64, 28, 28))]
    [torch.Size([5, 3, 28, 28]), torch.Size([5, 3, 28, 28])]
    """

    def __init__(self, features, shape, count=1):
        shape, is_map = tuple(shape), not isinstance(features, int)
        if is_map and tuple(features[1:]) != shape[1:]:
            raise ValueError(f"a feature map {tuple(features)} cannot become an image {shape}: their sizes differ")
        super().__init__(features[0] if is_map else features, count * (shape[0] if is_map else math.prod(shape)))
        self.features, self.shape, self.count, self.is_map = features, shape, count, is_map

    def forward(self, h):
        if self.is_map:
            pixels = h.flatten(-2)
            # Expanded by hand: matmul would transpose the maps instead, which takes four times as long as the products.
            weight = self.weight.expand(*pixels.shape[:-2], -1, -1)
            y = (weight @ pixels + self.bias.unsqueeze(-1)).flatten(-2)
        else:
            y = super().forward(h)
        return y.unflatten(-1, (self.count, *self.shape)).unbind(-1 - len(self.shape))

    def extra_repr(self):
        features = self.features if self.is_map else [self.features]
        return f"{'×'.join(map(str, features))} → {'×'.join(map(str, self.shape))}"
