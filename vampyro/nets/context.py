"""The networks inside flows."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Perceptron(NamedTuple):
    """a → U tanh(W a + c) + d, (..., inputs) → (..., outputs), in the precision of W.

    Each image has its own c (*batch, hidden); W, U and d are the same for all.
    """

    w: Tensor
    c: Tensor
    u: Tensor
    d: Tensor

    def __call__(self, a: Tensor) -> Tensor:
        return linear(torch.tanh(linear(a.to(self.w.dtype), self.w) + self.c), self.u, self.d)


class ContextMLP(nn.Module):
    """h → Perceptron with c = V h + b, or with `shared` one c for all h.

    The output starts near zero, so that a flow made of it starts near the identity.

    Args:
        inputs, outputs, hidden: sizes of the perceptron; `features` is that of h.
        masks: (hidden, inputs) and (outputs, hidden) of zeros and ones that W and U are multiplied with, or None.

    >>> ContextMLP(3, 8, 2)(torch.zeros(7, 8))(torch.zeros(5, 1, 3)).shape
    torch.Size([5, 7, 2])
    """

    w_mask: Tensor | None
    u_mask: Tensor | None

    def __init__(
        self,
        inputs: int,
        features: int,
        outputs: int,
        hidden: int = 64,
        shared: bool = False,
        masks: tuple[Tensor, Tensor] | None = None,
    ):
        super().__init__()
        self.w = nn.Parameter(torch.randn(hidden, inputs) / max(1, inputs) ** 0.5)
        self.v = None if shared else nn.Parameter(0.5 * torch.randn(hidden, features) / features**0.5)
        self.b = nn.Parameter(torch.zeros(hidden))
        self.u = nn.Parameter(0.01 * torch.randn(outputs, hidden))
        self.d = nn.Parameter(torch.zeros(outputs))
        for name, mask in zip(("w_mask", "u_mask"), masks or (None, None)):
            self.register_buffer(name, mask, persistent=False)

    def forward(self, h: Any) -> Perceptron:
        w = self.w if self.w_mask is None else self.w * self.w_mask
        u = self.u if self.u_mask is None else self.u * self.u_mask
        return Perceptron(w, self.b if self.v is None else linear(h, self.v, self.b), u, self.d)


class Conditioner(nn.Module):
    """θ(h) = bias + W h, cut into tensors (*batch, *shape); where `shared`, θ = bias, cut into tensors (*shape).

    `scales` are the standard deviations of the bias at the start, one for each shape.

    >>> [t.shape for t in Conditioner(8, [(3, 2), (3,)], [0.1, 0.0])(torch.zeros(5, 8))]
    [torch.Size([5, 3, 2]), torch.Size([5, 3])]
    """

    def __init__(self, features: int, shapes: Sequence[tuple[int, ...]], scales: Sequence[float], shared: bool = False):
        super().__init__()
        self.shapes = [tuple(shape) for shape in shapes]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.bias = nn.Parameter(torch.cat([scale * torch.randn(size) for size, scale in zip(self.sizes, scales)]))
        self.weight = None if shared else nn.Parameter(0.01 * torch.randn(sum(self.sizes), features))

    def forward(self, h: Any) -> list[Tensor]:
        theta = self.bias if self.weight is None else linear(h, self.weight, self.bias)
        return [t.unflatten(-1, shape) for t, shape in zip(theta.split(self.sizes, -1), self.shapes)]


def autoregressive(positions: int, inputs: int, units: int, outputs: int, repeat: int = 1) -> tuple[Tensor, Tensor]:
    """Masks of W and U: outputs m depend on the inputs before m alone (MADE, Germain et al. 2015, arXiv:1502.03509).

    Each of the M positions has so many inputs, units and outputs; the outputs come `repeat` times.

    >>> for mask in autoregressive(positions=2, inputs=1, units=1, outputs=1): mask
    tensor([[0., 0.],
            [1., 0.]])
    tensor([[1., 0.],
            [1., 1.]])
    """
    of_input, of_unit, of_output = (torch.arange(positions).repeat_interleave(n) for n in (inputs, units, outputs))
    return (of_input < of_unit[:, None]).float(), (of_unit <= of_output[:, None]).float().repeat(repeat, 1)
