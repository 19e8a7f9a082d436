"""The continuous Bernoulli, normalised for every logit."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from vampyro.distributions.base import Distribution

SERIES_BELOW = 0.5  # below it the closed forms' gradients lose digits, and six terms of the series are exact in float64
# log(sinh(l/2)/(l/2)) = Σ_n B₂ₙ l²ⁿ/(2n (2n)!), with B the Bernoulli numbers: the coefficients of l², l⁴, …
SERIES = (1 / 24, -1 / 2880, 1 / 181440, -1 / 9676800, 1 / 479001600, -691 / 15692092416000)


def _power_series(coefficients, x):
    """Σ_n coefficients[n] xⁿ."""
    total = 0.0
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


class ContinuousBernoulli(Distribution):
    """p(x) = C(λ) λ^x (1 - λ)^(1-x), λ = σ(logits), x in [0, 1]   (arXiv:1907.06845).

    With l = logit λ this is e^(l (x - ½)) (l/2)/sinh(l/2): an exponential in the distance from the end that l favours,
    cut at 1. It is finite and normalised for every l. torch's own goes through λ, which is 1 in float32 beyond l = 16:
    there its density does not integrate to 1 (to 0.53 at l = 30) and its normaliser has no gradient.

    Args:
        logits: a tensor of the batch shape.

    Raises:
        ValueError: under Pyro's validation, where x is outside [0, 1] or a logit not finite.

    >>> p = ContinuousBernoulli(torch.tensor([0.0, 2.0, 1000.0]))
    >>> p, p.log_prob(torch.tensor(1.0)), p.mean
    (ContinuousBernoulli(batch 3), tensor([0.0000, 0.8386, 6.9078]), tensor([0.5000, 0.6565, 0.9990]))
    """

    arg_constraints = {"logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = False

    def __init__(self, logits: Tensor, validate_args: bool | None = None):
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    def _split(self, logits):
        """Where |l| is small; l there, else 0; |l| elsewhere, else 1, which gives no NaN."""
        near = logits.abs() < SERIES_BELOW
        return near, logits.masked_fill(~near, 0), logits.abs().masked_fill(near, 1)

    @property
    def mean(self) -> Tensor:
        near, small, size = self._split(self.logits)
        slope = _power_series([2 * (n + 1) * c for n, c in enumerate(SERIES)], small.square())
        # 1/(e^l - 1), written in e^-l: the gradient of 1/expm1(l) is ∞/∞ from l = 89 on.
        distance = 1 / size + (-size).exp() / torch.expm1(-size)
        return torch.where(near, 0.5 + small * slope, torch.where(self.logits > 0, 1 - distance, distance))

    @property
    def variance(self) -> Tensor:
        """1/l² - 1/(4 sinh²(l/2)), the second derivative of log sinh(l/2)/(l/2)."""
        near, small, size = self._split(self.logits)
        series = _power_series([2 * (n + 1) * (2 * n + 1) * c for n, c in enumerate(SERIES)], small.square())
        away = size.square().reciprocal() - (-size).exp() / torch.expm1(-size).square()
        return torch.where(near, series, away)

    def changed(self, change: Callable[[Tensor], Tensor]) -> "ContinuousBernoulli":
        return ContinuousBernoulli(change(self.logits), validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), nats, in the precision of x and the logits, whichever is finer."""
        if self._validate_args:
            self._validate_sample(x)
        logits = self.logits.to(torch.promote_types(x.dtype, self.logits.dtype))
        near, small, size = self._split(logits)
        square = small.square()
        about_half = small * (x - 0.5) - square * _power_series(SERIES, square)
        distance = torch.where(logits > 0, 1 - x, x)
        return torch.where(near, about_half, -size * distance - (-torch.expm1(-size) / size).log())

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """By the inverse of the distribution function of the distance from the favoured end."""
        u = torch.rand(self._extended_shape(sample_shape), dtype=self.logits.dtype, device=self.logits.device)
        size = self.logits.abs().clamp_min(1e-6)
        distance = (-torch.log1p(u * torch.expm1(-size)) / size).clamp(0, 1)  # against rounding
        return torch.where(self.logits > 0, 1 - distance, distance)
