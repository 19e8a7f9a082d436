"""The standard priors: Normal for real latents, Bernoulli for binary ones."""

import torch
from torch import Tensor
from vampyro.priors.base import Prior

from vampyro.distributions import BernoulliVector, DiagonalNormal


class StandardNormal(Prior):
    """p(z) = N(z; 0, I)   (Kingma & Welling 2014, arXiv:1312.6114).

    >>> StandardNormal(latent=40), StandardNormal(40)().sample((3,)).shape
    (StandardNormal(40), torch.Size([3, 40]))
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, latent: int):
        super().__init__()
        self.register_buffer("loc", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))

    def forward(self) -> DiagonalNormal:
        return DiagonalNormal(self.loc, self.scale)

    def __repr__(self) -> str:
        return f"StandardNormal({len(self.loc)})"


class StandardBernoulli(Prior):
    """p(z) = Π_d Ber(z_d; ½) = 2^-latent: all vectors of bits have the same probability.

    >>> StandardBernoulli(latent=2), StandardBernoulli(2)().log_prob(torch.ones(2)).exp()
    (StandardBernoulli(2), tensor(0.2500))
    """

    logits: Tensor

    def __init__(self, latent: int):
        super().__init__()
        self.register_buffer("logits", torch.zeros(latent))

    def forward(self) -> BernoulliVector:
        return BernoulliVector(self.logits)

    def __repr__(self) -> str:
        return f"StandardBernoulli({len(self.logits)})"
