"""The amortised guide for two levels of latents."""

import pyro
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from vampyro.guides.amortized import AmortizedGuide


class TwoLevelGuide(AmortizedGuide):
    """q(z2 | x) q(z1 | x, z2)   (arXiv:1705.07120).

    Args:
        upper: a `Guide`, whose q(x) is the posterior of z2, and so `guide.q(x)`.
        lower: a `Guide`, whose q((x, z2)) is the posterior of z1.

    >>> from vampyro import assemble
    >>> model, guide = assemble(model="two-level", prior="vamp:50", hidden=(32,), latent=(8, 4))
    >>> model.prior()
    Mixture(50 × DiagonalNormal, equal weights)
    """

    def __init__(self, upper: AmortizedGuide, lower: AmortizedGuide):
        super().__init__()
        self.upper, self.lower = upper, lower

    def q(self, x: Tensor) -> TorchDistributionMixin:
        return self.upper.q(x)

    def base(self, x: Tensor) -> TorchDistributionMixin:
        return self.upper.base(x)

    def forward(self, x: Float[Tensor, " images *event"]) -> tuple[Tensor, Tensor]:
        with pyro.plate("images", len(x)):
            z2 = pyro.sample("z2", self.upper.q(x))
            z1 = pyro.sample("z1", self.lower.q((x, z2)))  # type: ignore[arg-type]
            return z1, z2
