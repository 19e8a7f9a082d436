"""What all flows share: a module that computes a bijection's parameters, and bijections made of networks."""

import torch
from torch import Tensor, nn

from vampyro.distributions import Bijection
from vampyro.nets.context import Perceptron


class NetBijection(Bijection):
    """A bijection whose every layer asks a network how to move z.

    Args:
        nets: a `Perceptron` for each layer.
        latent: size of the vectors.
    """

    def __init__(self, nets: list[Perceptron], latent: int | None = None):
        super().__init__()
        self.nets, self.latent = nets, latent

    @property
    def batch_shape(self) -> torch.Size:
        return self.nets[0].c.shape[:-1]

    @property
    def length(self) -> int:
        return len(self.nets)

    def _index(self, index, dtype):  # nets compute in their own precision
        self.nets = [net._replace(c=net.c[index]) for net in self.nets]


class Flow(nn.Module):
    """h → Bijection, its parameters computed from h, or with `shared` one map for all h.

    A subclass computes the map in `forward(h)`; where it is shared h may be None.

    Args:
        length: number of layers.
        shared: learn one map for all images instead of computing it from h.

    >>> from vampyro.flows.planar import Planar
    >>> class Still(Flow):
    ...     def forward(self, h):
    ...         return Planar(h.new_zeros(1, 2), h.new_ones(1, 2), h.new_zeros(1))
    >>> Still(length=1, shared=True), Still(1, True)(torch.zeros(5, 300))
    (Still(length=1, shared), Planar(length=1))
    """

    def __init__(self, length: int, shared: bool):
        super().__init__()
        self.length, self.shared = length, shared

    def forward(self, h: Tensor | None) -> Bijection:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}(length={self.length}, {'shared' if self.shared else 'amortised'})"
