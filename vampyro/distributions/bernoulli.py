"""Independent bits: vectors of latents, and images whose logits are linear in a few features."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints, register_kl
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn.functional import binary_cross_entropy_with_logits, linear, logsigmoid, softplus

from vampyro.distributions.base import Distribution


class LinearBernoulli(Distribution):
    """Π_i Ber(x_i; σ(l_i)), l = W h + b.

    log p(x) = Σ_i x_i l_i - softplus(l_i), and Σ_i x_i l_i = h·(Wᵀx) + x·b: where many h explain one x, as in
    importance sampling, Wᵀx is computed once. One h for one x is scored as by `Bernoulli(logits=l)`, to the bit.

    Args:
        h, weight, bias: (..., features), (pixels, features), (pixels,).
        shape: of an image, `pixels` numbers in all.

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


MAX_BITS = 12  # that are enumerated: 4096 values


class BernoulliVector(Distribution, dist.Independent):  # type: ignore[override]
    """Π_d Ber(z_d; σ(l_d)): the last dimension is one event.

    log p(z) = Σ_d z_d l_d + log σ(-l_d), in the finer precision of z and the logits l, (..., latent).

    >>> q = BernoulliVector(torch.zeros(3, 2))
    >>> q, q.log_prob(torch.ones(2)).exp()
    (BernoulliVector(batch 3, event 2), tensor([0.2500, 0.2500, 0.2500]))
    >>> q.pairwise_log_prob(torch.zeros(5, 2)).shape        # 5 points under each of 3 components
    torch.Size([5, 3])
    """

    has_enumerate_support = True

    def __init__(self, logits: Float[Tensor, "*batch latent"], validate_args: bool | None = None):
        bits = dist.Bernoulli(logits=logits, validate_args=validate_args)
        self.logits = bits.logits
        super().__init__(bits, 1, validate_args=validate_args)

    def with_parameters(self, change: Callable[[Tensor], Tensor]) -> "BernoulliVector":
        return type(self)(change(self.logits), validate_args=False)

    def log_prob(self, z: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(z)
        logits = self.logits.to(torch.promote_types(z.dtype, self.logits.dtype))
        # torch's softplus is 2e-9 off above 20; logsigmoid keeps every digit of float64.
        return (z * logits + logsigmoid(-logits)).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """By uniform numbers, which a compiled graph draws as Python does."""
        probs = self.logits.sigmoid().expand(self._extended_shape(sample_shape))
        return (torch.rand_like(probs) < probs).to(probs.dtype)

    def pairwise_log_prob(self, z: Float[Tensor, "*points latent"]) -> Float[Tensor, "*points components"]:
        """log p_k(z_n) = z_n·l_k + Σ_d log σ(-l_kd), by one matrix product in the precision of `z`."""
        logits = self.logits.to(z.dtype)
        # A row for each component: the gradient's sums over points go along the rows.
        scores = logits @ z.reshape(-1, z.shape[-1]).T + logsigmoid(-logits).sum(-1, keepdim=True)
        return scores.T.reshape(*z.shape[:-1], len(logits))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values, (2^latent, 1…, latent), or (2^latent, *batch_shape, latent) with `expand`; at most 12 bits.

        >>> BernoulliVector(torch.zeros(2)).enumerate_support().tolist()
        [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
        """
        bits = self.event_shape[0]
        if bits > MAX_BITS:
            raise ValueError(f"{bits} bits have 2^{bits} values: at most {MAX_BITS} bits are enumerated")
        numbers = torch.arange(2**bits, device=self.logits.device).unsqueeze(-1)
        values = (numbers >> torch.arange(bits - 1, -1, -1, device=numbers.device) & 1).to(self.logits.dtype)
        values = values.reshape(-1, *[1] * len(self.batch_shape), bits)
        return values.expand(-1, *self.batch_shape, -1) if expand else values

    def straight_through(self) -> "StraightThroughBernoulli":
        """The same bits, with a gradient."""
        new = StraightThroughBernoulli(self.logits, validate_args=False)
        new._validate_args = self._validate_args
        return new


class StraightThroughBernoulli(BernoulliVector):
    """A `BernoulliVector` whose `rsample` is exactly binary and has a gradient   (Bengio et al. 2013, arXiv:1308.3432),
    of second order (Liu et al. 2023, arXiv:2304.08612).

    ∇_l E[f(z)] is p(1 - p) (f(1) - f(0)) for one bit, p = σ(l). The trapezium rule puts ½ (f'(0) + f'(1)) for the
    difference, and ½ |z - p| f'(z) has that as its mean: so dz/dl is set to ½ |z - p|. This is exact where f is
    quadratic in each bit, and biased elsewhere.

    >>> logits = torch.zeros(1000, 2, requires_grad=True)
    >>> z = BernoulliVector(logits).straight_through().rsample()
    >>> z.sum().backward()
    >>> sorted(set(z.flatten().tolist())), logits.grad[0]
    ([0.0, 1.0], tensor([0.2500, 0.2500]))
    """

    has_rsample = True

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        z = self.sample(sample_shape)
        slope = 0.5 * (z - self.logits.detach().sigmoid()).abs()
        return z + slope * (self.logits - self.logits.detach())  # plus exactly 0


@register_kl(BernoulliVector, BernoulliVector)
def _kl(q, p):
    """Σ_d σ(a) (log σ(a) - log σ(b)) + σ(-a) (log σ(-a) - log σ(-b)), a and b the logits."""
    a, b = q.logits, p.logits
    on = a.sigmoid() * (logsigmoid(a) - logsigmoid(b))
    return (on + (-a).sigmoid() * (logsigmoid(-a) - logsigmoid(-b))).sum(-1)
