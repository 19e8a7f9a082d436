"""Distributions of grey pixels: the continuous Bernoulli, and a logistic that is rounded to grey levels."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid, softplus

from vampyro.distributions.base import Distribution, times

SERIES_BELOW = 0.5  # below it the closed forms' gradients lose digits, and six terms of the series are exact in float64
# log(sinh(l/2)/(l/2)) = Σ_n B₂ₙ l²ⁿ/(2n (2n)!), with B the Bernoulli numbers: the coefficients of l², l⁴, …
SERIES = (1 / 24, -1 / 2880, 1 / 181440, -1 / 9676800, 1 / 479001600, -691 / 15692092416000)


def _power_series(coefficients, x):
    """Σ_n coefficients[n] xⁿ."""
    return reduce(lambda total, coefficient: total * x + coefficient, reversed(coefficients), 0.0)


class ContinuousBernoulli(Distribution):
    """p(x) = C(λ) λ^x (1 - λ)^(1-x), λ = σ(logits), x in [0, 1]   (arXiv:1907.06845).

    With l = logit λ this is e^(l (x - ½)) (l/2)/sinh(l/2): an exponential in the distance from the end that l favours,
    cut at 1. It is finite and normalised for every l. torch's own goes through λ, which is 1 in float32 beyond l = 16:
    there its density does not integrate to 1 (to 0.53 at l = 30) and its normaliser has no gradient.

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

    def with_parameters(self, change: Callable[[Tensor], Tensor]) -> "ContinuousBernoulli":
        return ContinuousBernoulli(change(self.logits), validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), nats, in the finer precision of x and the logits."""
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


class Levels(constraints.Constraint):
    """The numbers 0, 1/(n-1), …, 1, each within a thousandth of a step, as float32 rounds k/255."""

    is_discrete = True

    def __init__(self, levels: int):
        self.levels = levels

    def check(self, value: Tensor) -> Tensor:
        step = value * (self.levels - 1)
        nearest = step.round().clamp(0, self.levels - 1)
        return (step - nearest).abs() < 1e-3

    def __repr__(self) -> str:
        return f"Levels(k/{self.levels - 1} for k = 0 … {self.levels - 1})"


class DiscretisedLogistic(Distribution):
    """P(x) = F((x + δ/2 - loc)/scale) - F((x - δ/2 - loc)/scale), F(y) = 1/(1 + e^-y), δ = 1/(levels - 1).

    A logistic variable, rounded to the nearest of the levels 0, δ, …, 1; the first and last level take the tails
    (Salimans et al. 2017, arXiv:1701.05517). loc and scale are in units of x, black 0 and white 1.

    Raises:
        ValueError: where levels < 2; under Pyro's validation, where x is not one of the levels.

    >>> p = DiscretisedLogistic(torch.tensor([0.3]), torch.tensor([0.1]))
    >>> p, round(p.log_prob(torch.arange(256).unsqueeze(-1) / 255).exp().sum().item(), 5)
    (DiscretisedLogistic(batch 1, 256 levels), 1.0)
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    has_rsample = False

    def __init__(self, loc: Tensor, scale: Tensor, levels: int = 256, validate_args: bool | None = None):
        if levels < 2:
            raise ValueError(f"DiscretisedLogistic expects at least 2 levels, got {levels}")
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        return Levels(self.levels)

    @property
    def mean(self) -> Tensor:
        """E[x] before rounding: of the logistic cut to [0, 1], scale·(softplus(loc/scale) - softplus((loc-1)/scale)).

        Rounding adds at most δ/2, and at most δ²/(48 scale) ~ 3e-7/scale where that is less.
        """
        # The distance from the nearer end: far above 1, loc and loc - 1 would cancel.
        above = self.loc > 0.5
        loc = torch.where(above, 1 - self.loc, self.loc)
        distance = self.scale * (softplus(loc / self.scale) - softplus((loc - 1) / self.scale))
        distance = distance.clamp(0, 1)  # against rounding
        return torch.where(above, 1 - distance, distance)

    def with_parameters(self, change: Callable[[Tensor], Tensor]) -> "DiscretisedLogistic":
        return DiscretisedLogistic(change(self.loc), change(self.scale), self.levels, validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """log P(x), nats, of the level nearest to x, in the finer precision of x and the parameters.

        With a and b the upper and lower edge, σ(a) - σ(b) = σ(a) σ(-b) (1 - e^(b-a)), and a - b = δ/scale is the same
        for all levels, so nothing cancels. An edge at ∞ makes its own factor 1, and the third.
        """
        if self._validate_args:
            self._validate_sample(x)
        dtype = torch.promote_types(x.dtype, self.loc.dtype)
        loc, scale, steps = self.loc.to(dtype), self.scale.to(dtype), self.levels - 1
        level = (x.to(dtype) * steps).round()
        first, last = level <= 0, level >= steps
        below = logsigmoid(((level + 0.5) / steps - loc) / scale)
        above = logsigmoid((loc - (level - 0.5) / steps) / scale)
        within = (-torch.expm1(-1 / (steps * scale))).log()
        return below.masked_fill(last, 0) + above.masked_fill(first, 0) + within.masked_fill(first | last, 0)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        u = torch.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        x = self.loc + self.scale * (u.log() - torch.log1p(-u))
        return (x * (self.levels - 1)).round().clamp(0, self.levels - 1) / (self.levels - 1)

    def __repr__(self) -> str:
        return f"DiscretisedLogistic(batch {times(self.batch_shape)}, {self.levels} levels)"
