"""The amortised guide: one network infers z for every image."""

from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from vampyro.guides.base import AmortizedGuide

from vampyro.distributions import FlowDistribution


class Guide(AmortizedGuide):
    """q(z | x) = T_h # N(loc(h), diag(scale(h)²)), h = body(x)   (arXiv:1312.6114, arXiv:1505.05770).

    Args:
        body: x → h, images (..., channels, height, width) to features (..., features).
        head: h → the base distribution over z.
        flow: h → Transform, or None: then the base itself is the posterior.

    `guide(x)` is the Pyro program with the site "z" in the plate "images"; `guide.q(x)` is its
    distribution, to sample, score, plot, or borrow as a VampPrior's components.

    >>> import torch; from vampyro import nets
    >>> guide = Guide(nets.MLP((1, 28, 28), (300,)), nets.NormalHead(300, 2))
    >>> guide.q(torch.zeros(5, 1, 28, 28))
    DiagonalNormal(batch 5, event 2)
    """

    def __init__(self, body: nn.Module, head: nn.Module, flow: nn.Module | None = None):
        super().__init__()
        self.body, self.head, self.flow = body, head, flow

    def q(self, x: Tensor | tuple[Tensor, Tensor]) -> TorchDistributionMixin:
        """q(z | x): batch shape (...) of x (..., channels, height, width), event shape (latent,)."""
        h = self.body(x)
        base = self.head(h)
        return base if self.flow is None else FlowDistribution(base, self.flow(h))

    def base(self, x: Tensor | tuple[Tensor, Tensor]) -> TorchDistributionMixin:
        """N(loc(h), diag(scale(h)²)), the posterior before its flow."""
        return self.head(self.body(x))
