"""The standard Normal prior."""

import torch
from torch import nn

from distributions import DiagonalNormal


class StandardNormal(nn.Module):
    """p(z) = N(z; 0, I)   (Kingma & Welling 2014, arXiv:1312.6114).

    Args:
        latent: dimension of z.

    forward: () → distribution, batch shape (), event shape (latent,).

    >>> StandardNormal(40)
    StandardNormal(40)
    >>> StandardNormal(40)().sample((3,)).shape
    torch.Size([3, 40])
    """

    def __init__(self, latent):
        super().__init__()
        self.register_buffer("loc", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))

    def forward(self):
        return DiagonalNormal(self.loc, self.scale)

    def __repr__(self):
        return f"StandardNormal({len(self.loc)})"
