"""A logistic that is rounded to grey levels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid, softplus

from vampyro.distributions.base import Distribution, times


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

    The first and last level take the tails, so that the probabilities of the levels 0, δ, …, 1 sum to 1: a logistic
    variable, rounded to the nearest level (Salimans et al. 2017, arXiv:1701.05517).

    Args:
        loc, scale: tensors that broadcast to the batch shape, `scale` > 0; in units of x, black 0 and white 1.
        levels: number of levels, at least 2.

    `log_prob` takes x to its nearest level and is differentiable in loc and scale.

    Raises:
        ValueError: under Pyro's validation, where x is not one of the levels or `scale` not positive;
            always, where levels < 2.

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

    def changed(self, change: Callable[[Tensor], Tensor]) -> "DiscretisedLogistic":
        return DiscretisedLogistic(change(self.loc), change(self.scale), self.levels, validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """log P(x), nats, in the precision of x and the parameters, whichever is finer.

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
