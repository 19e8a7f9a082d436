"""Priors over vectors of codes: uniform, and learned, one code given those before it."""

import torch
from torch import nn

from vampyro.distributions import AutoregressiveCodes, Codes
from vampyro.nets.context import ContextMLP

UNITS = 32  # hidden units that see the first m codes, for each m = 0 … M - 1


class UniformCodes(nn.Module):
    """p(z) = K^-M on every vector of M codes   (van den Oord et al. 2017, arXiv:1711.00937, while training).

    Args:
        codebook: () → (K, d), borrowed, not owned: pass the bound method `guide.head.codebook`.
        positions: M.

    forward: () → Codes, batch shape (), event shape (M·d,).

    >>> from vampyro.nets import VectorQuantiser
    >>> UniformCodes(VectorQuantiser(300, 40, codes=64).codebook, 10)
    UniformCodes(64^10 vectors, 40)
    """

    def __init__(self, codebook, positions):
        super().__init__()
        self.codebook, self.positions = codebook, positions

    def forward(self):
        codebook = self.codebook()
        return Codes(codebook.new_zeros(self.positions, len(codebook)), codebook)

    def __repr__(self):
        return _repr(self)


class AutoregressivePrior(nn.Module):
    """p(z) = Π_m p(k_m | k_1 … k_{m-1}), z = (e_{k_1}, …, e_{k_M}), all by one masked network   (MADE, Germain et al.
    2015, arXiv:1502.03509).

    The network sees which code it is, not where the code lies: it has no gradient for the encoder, and a codebook that
    moves leaves it as it is. Starts as uniform.

    Args:
        codebook: () → (K, d), borrowed, not owned: pass the bound method `guide.head.codebook`.
        positions: M.

    forward: () → AutoregressiveCodes, batch shape (), event shape (M·d,).

    >>> from vampyro.nets import VectorQuantiser
    >>> AutoregressivePrior(VectorQuantiser(300, 40, codes=64).codebook, 10)
    AutoregressivePrior(64^10 vectors, 40)
    """

    def __init__(self, codebook, positions):
        super().__init__()
        self.codebook, self.positions = codebook, positions
        size = positions * (count := len(codebook()))
        self.net = ContextMLP(size, 0, size, UNITS * positions, shared=True, masks=autoregressive(positions, count))
        with torch.no_grad():
            self.net.w.mul_(count**0.5)  # one of K inputs is 1, the others 0

    def forward(self):
        return AutoregressiveCodes(self.net(None), self.codebook(), self.positions)

    def __repr__(self):
        return _repr(self)


def autoregressive(positions, codes):
    """Masks of W and U: unit m·UNITS + n sees the codes before m, outputs m see the units that see no more than m."""
    sees, position = torch.arange(positions).repeat_interleave(UNITS), torch.arange(positions).repeat_interleave(codes)
    return (position < sees[:, None]).float(), (sees <= position[:, None]).float()


def _repr(prior):
    count, dimension = prior.codebook().shape
    return f"{type(prior).__name__}({count}^{prior.positions} vectors, {prior.positions * dimension})"
