"""The standard prior of binary latents."""

import torch
from torch import nn

from distributions import BernoulliVector


class StandardBernoulli(nn.Module):
    """p(z) = Π_d Ber(z_d; ½) = 2^-latent: every code is as likely as any other.

    Args:
        latent: number of bits.

    forward: () → distribution, batch shape (), event shape (latent,).

    >>> StandardBernoulli(200)
    StandardBernoulli(200)
    >>> StandardBernoulli(2)().log_prob(torch.ones(2)).exp()
    tensor(0.2500)
    """

    def __init__(self, latent):
        super().__init__()
        self.register_buffer("logits", torch.zeros(latent))

    def forward(self):
        return BernoulliVector(self.logits)

    def __repr__(self):
        return f"StandardBernoulli({len(self.logits)})"
