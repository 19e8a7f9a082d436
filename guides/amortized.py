"""Amortised guides: one network infers z for every image."""

import pyro
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from vampyro.distributions import FlowDistribution


class AmortizedGuide(nn.Module):
    """q(z | x) by networks. A subclass computes `q(x)`, the posterior of the top level, which a VampPrior can use.

    The Pyro program here has one latent, the site "z" in the plate "images"; where there are more, override `forward`.

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


class Guide(AmortizedGuide):
    """q(z | x) = T_h # N(loc(h), diag(scale(h)²)), h = body(x)   (arXiv:1312.6114, arXiv:1505.05770).

    Args:
        body: x → h, images (..., channels, height, width) to features (..., features).
        head: h → the base distribution over z.
        flow: h → Transform, or None: then the base itself is the posterior.

    >>> import torch; from vampyro import nets
    >>> guide = Guide(nets.MLP((1, 28, 28), (300,)), nets.NormalHead(300, 2))
    >>> guide.q(torch.zeros(5, 1, 28, 28))
    DiagonalNormal(batch 5, event 2)
    """

    def __init__(self, body: nn.Module, head: nn.Module, flow: nn.Module | None = None):
        super().__init__()
        self.body, self.head, self.flow = body, head, flow

    def q(self, x: Tensor | tuple[Tensor, Tensor]) -> TorchDistributionMixin:
        h = self.body(x)
        base = self.head(h)
        return base if self.flow is None else FlowDistribution(base, self.flow(h))

    def base(self, x: Tensor | tuple[Tensor, Tensor]) -> TorchDistributionMixin:
        return self.head(self.body(x))
