"""The numbers that a flow needs, computed from features or learned once for all."""

import math

import torch
from torch import nn


class Conditioner(nn.Module):
    """θ(h) = bias + W h, cut into tensors of the given shapes; W is left out where `shared`.

    Args:
        features: size of h (unused where shared).
        shapes: a list of shapes; forward returns one tensor (*batch, *shape) for each, and
            (*shape) where shared: no batch dimension says that one set serves every h.
        scales: standard deviation of the bias at the start, one for each shape.
        shared: one learned set of numbers for all h.

    >>> [t.shape for t in Conditioner(8, [(3, 2), (3,)], [0.1, 0.0])(torch.zeros(5, 8))]
    [torch.Size([5, 3, 2]), torch.Size([5, 3])]
    >>> [t.shape for t in Conditioner(8, [(3, 2), (3,)], [0.1, 0.0], shared=True)(torch.zeros(5, 8))]
    [torch.Size([3, 2]), torch.Size([3])]
    """

    def __init__(self, features, shapes, scales, shared=False):
        super().__init__()
        self.shapes = [tuple(shape) for shape in shapes]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.bias = nn.Parameter(torch.cat([scale * torch.randn(size) for size, scale in zip(self.sizes, scales)]))
        # Small: what depends on x enters gently and training finds its size.
        self.weight = None if shared else nn.Parameter(0.01 * torch.randn(sum(self.sizes), features))

    def forward(self, h):
        theta = self.bias if self.weight is None else nn.functional.linear(h, self.weight, self.bias)
        return [t.unflatten(-1, shape) for t, shape in zip(theta.split(self.sizes, -1), self.shapes)]
