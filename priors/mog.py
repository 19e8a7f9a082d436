"""A mixture of Gaussians as the prior."""

import torch
from torch import nn
from vampyro.priors.base import Prior

from vampyro.distributions import DiagonalNormal, Mixture


class MixtureOfGaussians(Prior):
    """p(z) = Σ_k π_k N(z; loc_k, diag(scale_k²)), all learned; π_k = 1/K unless `weighted`.

    All components start as nearly N(0, I), side by side, so that each gets a share of every z and of the gradient.
    Started apart, half of the variance between them, most die in 40 dimensions: of 50 on static MNIST
    7 were left after 12 epochs, and log p(x) was 3.3 nats lower.

    Args:
        latent: dimension of z.
        components: K.
        weighted: learn the weights too.

    forward: () → Mixture, batch shape (), event shape (latent,).

    >>> MixtureOfGaussians(40, components=10, weighted=True)
    MixtureOfGaussians(10 components, 40, learned weights)
    """

    def __init__(self, latent: int, components: int = 10, weighted: bool = False):
        super().__init__()
        self.loc = nn.Parameter(0.1 * torch.randn(components, latent))
        self.log_scale = nn.Parameter(torch.zeros(components, latent))
        self.logits = nn.Parameter(torch.zeros(components)) if weighted else None

    def forward(self) -> Mixture:
        return Mixture(DiagonalNormal(self.loc, self.log_scale.exp()), self.logits)

    def __repr__(self) -> str:
        weights = "equal" if self.logits is None else "learned"
        return f"MixtureOfGaussians({len(self.loc)} components, {self.loc.shape[1]}, {weights} weights)"
