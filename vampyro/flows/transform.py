"""What all flows share: a module that computes a bijection's parameters, and bijections made of layers."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vampyro.distributions import Bijection
from vampyro.nets.context import ContextMLP, Perceptron


class LayeredBijection(Bijection):
    """A bijection of `length` layers. A subclass computes one of them, in `layer`."""

    def layer(self, index: int, z: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        """Apply a layer or its inverse to z; the log-determinant, (...), is that of the layer in both cases."""
        raise NotImplementedError

    def push(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        return self._apply(x, range(self.length), inverse=False)

    def pull(self, y: Tensor) -> tuple[Tensor, Tensor | float]:
        return self._apply(y, reversed(range(self.length)), inverse=True)

    def _apply(self, z: Tensor, layers: Iterable[int], inverse: bool) -> tuple[Tensor, Tensor | float]:
        log_det: Tensor | float = 0.0
        for index in layers:
            z, change = self.layer(index, z, inverse)
            log_det = log_det + change
        return z, log_det


class NetBijection(LayeredBijection):
    """A bijection with a `Perceptron` in each layer."""

    def __init__(self, nets: list[Perceptron], latent: int | None = None):
        super().__init__()
        self.nets, self.latent, self.length = nets, latent, len(nets)

    @property
    def batch_shape(self) -> torch.Size:
        return self.nets[0].c.shape[:-1]

    def _index(self, index, dtype):  # nets compute in their own precision
        self.nets = [net._replace(c=net.c[index]) for net in self.nets]


class Flow(nn.Module):
    """h → Bijection of `length` layers; with `shared` one map for all images, and h may be None.

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


class NetFlow(Flow):
    """h → NetBijection: a `ContextMLP` for each layer, which a subclass builds."""

    transform = NetBijection

    def __init__(self, latent: int, shared: bool, nets: Iterable[ContextMLP]):
        modules = nn.ModuleList(nets)
        super().__init__(len(modules), shared)
        self.latent, self.nets = latent, modules

    def forward(self, h: Tensor | None) -> NetBijection:
        return self.transform([net(h) for net in self.nets], self.latent)
