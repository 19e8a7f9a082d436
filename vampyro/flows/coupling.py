"""Coupling flow: half of z is moved by a function of the other half."""

import torch
from torch import Tensor

from vampyro.flows.transform import NetBijection, NetFlow
from vampyro.nets.context import ContextMLP


def affine(x: Tensor, s: Tensor, t: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """x ⊙ exp(s) + t or its inverse, and s, the log-derivative; s is first squashed into (-2, 2)."""
    s = 2 * (s / 2).tanh()
    return (x - t) * (-s).exp() if inverse else x * s.exp() + t, s


class Coupling(NetBijection):
    """z = (a, b) → (a, b ⊙ exp(s) + t), (s, t) = net_l(a), l = 1…L; the halves change roles from layer to layer.

    Real NVP (Dinh et al. 2017, arXiv:1605.08803). log |det| = Σ_l Σ s. The inverse is as cheap as the map.
    Even layers move the second half, which is the larger of an odd number.
    """

    numbers = 2  # outputs of a net for each element it moves

    def element(self, b: Tensor, theta: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        """b moved by θ (…, n, numbers), and the log-derivatives: (…, n), (…, n)."""
        s, t = theta.unbind(-1)
        return affine(b, s, t, inverse)

    def layer(self, index: int, z: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        size = z.shape[-1] // 2
        a, b = z[..., :size], z[..., size:]
        if index % 2:
            a, b = b, a
        theta = self.nets[index](a).to(z.dtype).unflatten(-1, (b.shape[-1], self.numbers))
        b, change = self.element(b, theta, inverse)
        a = a.expand(*b.shape[:-1], -1)
        return torch.cat([b, a] if index % 2 else [a, b], -1), change.sum(-1)


class CouplingFlow(NetFlow):
    """h → Coupling, its networks of width `hidden` a function of h; with `shared` one map for all h.

    >>> CouplingFlow(features=300, latent=40, length=4)(torch.zeros(7, 300))
    Coupling(length=4)
    """

    transform: type[Coupling] = Coupling

    def __init__(self, features: int, latent: int, length: int = 4, shared: bool = False, hidden: int = 64):
        halves, numbers = (latent // 2, latent - latent // 2), self.transform.numbers
        sizes = [(halves[layer % 2], features, numbers * halves[1 - layer % 2]) for layer in range(length)]
        super().__init__(latent, shared, (ContextMLP(*size, hidden, shared) for size in sizes))
