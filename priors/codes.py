"""Priors over vectors of codes: uniform, and autoregressive."""

from collections.abc import Callable

import torch
from torch import Tensor
from vampyro.priors.base import Prior

from vampyro.distributions import AutoregressiveCodes, Codes
from vampyro.nets.context import ContextMLP, autoregressive

UNITS = 32  # hidden units that see the first m codes, for each m = 0 … M - 1


class CodesPrior(Prior):
    """A prior over vectors of M codes.

    Args:
        codebook: () → (K, d), of the guide: pass the bound method `guide.head.codebook`.
        positions: M.
    """

    def __init__(self, codebook: Callable[[], Tensor], positions: int):
        super().__init__()
        self.codebook, self.positions = codebook, positions

    def __repr__(self) -> str:
        count, dimension = self.codebook().shape
        return f"{type(self).__name__}({count}^{self.positions} vectors, {self.positions * dimension})"


class UniformCodes(CodesPrior):
    """p(z) = K^-M on every vector of M codes   (van den Oord et al. 2017, arXiv:1711.00937, while training).

    >>> from vampyro.nets import VectorQuantiser
    >>> UniformCodes(VectorQuantiser(300, 40, codes=64).codebook, 10)
    UniformCodes(64^10 vectors, 40)
    """

    def forward(self) -> Codes:
        codebook = self.codebook()
        return Codes(codebook.new_zeros(self.positions, len(codebook)), codebook)


class AutoregressivePrior(CodesPrior):
    """p(z) = Π_m p(k_m | k_1 … k_{m-1}), z = (e_{k_1}, …, e_{k_M}), all by one masked network   (MADE, Germain et al.
    2015, arXiv:1502.03509).

    The network takes the indices of the codes, so it gives the encoder no gradient. Starts as uniform.

    >>> from vampyro.nets import VectorQuantiser
    >>> AutoregressivePrior(VectorQuantiser(300, 40, codes=64).codebook, 10)
    AutoregressivePrior(64^10 vectors, 40)
    """

    def __init__(self, codebook: Callable[[], Tensor], positions: int):
        super().__init__(codebook, positions)
        size = positions * (count := len(codebook()))
        masks = autoregressive(positions, count, UNITS, count)
        self.net = ContextMLP(size, 0, size, UNITS * positions, shared=True, masks=masks)
        with torch.no_grad():
            self.net.w.mul_(count**0.5)  # one of K inputs is 1, the others 0

    def forward(self) -> AutoregressiveCodes:
        return AutoregressiveCodes(self.net(None), self.codebook(), self.positions)
