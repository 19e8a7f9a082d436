"""What an amortised guide is."""

import pyro
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn


class AmortizedGuide(nn.Module):
    """q(z | x) by networks: a guide whose posterior of the top level a VampPrior can borrow.

    A subclass computes `q(x)`. The Pyro program here has one latent, the site "z" in the plate "images"; where there
    are more, override `forward`. Any program is a guide; what it must be this for is `q`, and what is built on it.

    >>> import torch
    >>> from vampyro.distributions import DiagonalNormal
    >>> class Means(AmortizedGuide):
    ...     def q(self, x):
    ...         return DiagonalNormal(x.mean((-1, -2)), torch.ones(3))
    >>> Means().q(torch.zeros(5, 3, 28, 28)), Means()(torch.zeros(5, 3, 28, 28)).shape
    (DiagonalNormal(batch 5, event 3), torch.Size([5, 3]))
    """

    def q(self, x: Tensor) -> TorchDistributionMixin:
        """q(z | x): batch shape (...) of x (..., channels, height, width), event shape (latent,)."""
        raise NotImplementedError

    def base(self, x: Tensor) -> TorchDistributionMixin:
        """The posterior before its flow, where there is one; here q(z | x) itself."""
        return self.q(x)

    def forward(self, x: Float[Tensor, " images *event"]) -> Tensor | tuple[Tensor, ...]:
        with pyro.plate("images", len(x)):
            return pyro.sample("z", self.q(x))
