"""Binary images whose logits are linear in a few features."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn.functional import binary_cross_entropy_with_logits, linear, softplus

from vampyro.distributions.base import Distribution


class LinearBernoulli(Distribution):
    """Π_i Ber(x_i; σ(l_i)), l = W h + b.

    log p(x) = Σ_i x_i l_i - softplus(l_i), and Σ_i x_i l_i = h·(Wᵀx) + x·b: where many h explain one x, as in
    importance sampling, Wᵀx is computed once. One h for one x is scored as by `Bernoulli(logits=l)`, to the bit.

    Args:
        h: (..., features).
        weight, bias: (pixels, features), (pixels,).
        shape: of an image, `pixels` numbers in all.

    Raises:
        ValueError: under Pyro's validation, where x is not binary.

    >>> p = LinearBernoulli(torch.randn(100, 7, 3), torch.randn(20, 3), torch.zeros(20), (1, 4, 5))
    >>> p, p.log_prob(torch.ones(7, 1, 4, 5)).shape
    (LinearBernoulli(batch 100×7, event 1×4×5), torch.Size([100, 7]))
    """

    arg_constraints = {}
    has_rsample = False

    def __init__(
        self,
        h: Float[Tensor, "*batch features"],
        weight: Float[Tensor, "pixels features"],
        bias: Float[Tensor, " pixels"],
        shape: Sequence[int],
        validate_args: bool | None = None,
    ):
        self.h, self.weight, self.bias = h, weight, bias
        super().__init__(h.shape[:-1], torch.Size(shape), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.boolean, len(self.event_shape))

    @property
    def logits(self) -> Tensor:
        """(..., *shape)."""
        flat = linear(self.h, self.weight, self.bias)
        return flat.unflatten(-1, self.event_shape).expand(self.batch_shape + self.event_shape)

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    @property
    def variance(self) -> Tensor:
        return self.logits.sigmoid() * (-self.logits).sigmoid()

    def log_prob(self, x: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(x)
        logits = linear(self.h, self.weight, self.bias)
        x = x.flatten(-len(self.event_shape)).to(logits.dtype)
        if math.prod(x.shape[:-1]) < math.prod(logits.shape[:-1]):
            explained = (self.h * (x @ self.weight)).sum(-1) + x @ self.bias
            log_prob = explained - _sum_of_softplus(logits)
        else:
            logits, x = torch.broadcast_tensors(logits, x)
            log_prob = -binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return torch.bernoulli(self.mean.expand(self._extended_shape(sample_shape)))


def _sum_of_softplus(logits, lanes=16):
    """Σ_i log(1 + exp l_i) = Σ_i max(l_i, 0) + log Π_i (1 + exp -|l_i|), the last dimension.

    Each factor lies in (1, 2], so up to 100 of them multiply within float32: one logarithm instead of so many. Where a
    compiler makes one loop of it, it is three times as fast.
    """
    pixels = logits.shape[-1]
    if get_proxy_mode() is None or pixels % lanes or pixels > 100 * lanes:
        return softplus(logits).sum(-1)
    # -|l| by `where`: abs has no slope at 0, where relu has none either, and the gradient would be 0 and not ½.
    factors = 1 + torch.where(logits > 0, -logits, logits).exp()
    return logits.relu().sum(-1) + factors.unflatten(-1, (-1, lanes)).prod(-2).log().sum(-1)
