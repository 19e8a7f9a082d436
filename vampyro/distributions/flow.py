"""The distribution of the image of a sample under an invertible map."""

import warnings
from collections.abc import Sequence
from typing import Any, cast

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from vampyro.distributions.base import Distribution, blocks
from vampyro.distributions.bijection import Bijection
from vampyro.distributions.normal import DiagonalNormal

TOLERANCE = 1e-4  # of map(inverse(z)) - z, relative where z is above 1


class FlowDistribution(Distribution, dist.TransformedDistribution):
    """log q(z) = log base(x) - log |det ∂T(x)/∂x|, z = T(x)   (Rezende & Mohamed 2015, arXiv:1505.05770).

    Args:
        base: a distribution over vectors, batch shape (...,), event shape (latent,).
        transform: one of `flows`' transforms; its parameters' `batch_shape` is () or the base's.

    A sample is scored from the transform's cache; every other point is inverted exactly. Under Pyro's validation,
    `log_prob` warns where the map does not take the inverse back to the point: a flow with very large weights is too
    steep for float32.

    >>> import torch; from vampyro.distributions import DiagonalNormal
    >>> from vampyro.flows.planar import Planar
    >>> base = DiagonalNormal(torch.zeros(3, 2), torch.ones(3, 2))
    >>> FlowDistribution(base, Planar(torch.randn(3, 4, 2), torch.randn(3, 4, 2), torch.randn(3, 4)))
    FlowDistribution(DiagonalNormal(batch 3, event 2) → Planar(length=4))
    """

    symbol = "q"

    def __init__(
        self,
        base: torch.distributions.Distribution,
        transform: torch.distributions.Transform,
        validate_args: bool | None = None,
    ):
        dist.TransformedDistribution.__init__(self, base, [transform], validate_args=validate_args)
        self.transform = transform

    def log_prob(self, value: Tensor) -> Tensor:
        log_prob = super().log_prob(value)
        self._check_inverse(value)
        return log_prob

    @torch.no_grad()
    def _check_inverse(self, z):
        transform, transforming = self.transform, torch._C._are_functorch_transforms_active()
        if not self._validate_args or transforming or not isinstance(transform, Bijection):
            return
        error = (transform.push(transform.inv(z))[0] - z).abs() / z.abs().clamp(min=1)  # the inverse is remembered
        if (error > TOLERANCE).any():
            warnings.warn(
                f"{self.transform} is too steep for {z.dtype}: the map takes the inverse of a point to another, "
                f"{error.max():.1g} away, and the log-probability is that of the other; at most {TOLERANCE:g} is "
                "expected. Score z.double(), or train with a lower learning rate: the flow's weights are very large.",
                stacklevel=4,
            )

    @property
    def _map(self) -> Bijection | None:
        """The map, where it and the base are of our own classes."""
        known = isinstance(self.base_dist, DiagonalNormal) and isinstance(self.transform, Bijection)
        return cast(Bijection, self.transform) if known else None

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "FlowDistribution":
        new = FlowDistribution(self.base_dist.expand(batch_shape), self.transform, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def select(self, index: Any, dtype: torch.dtype | None = None) -> "FlowDistribution | None":
        if self._map is None:
            return None
        base = self.base_dist.select(index, dtype)
        return FlowDistribution(base, self._map.select(index, base.loc.dtype), validate_args=False)

    @property
    def costly(self) -> bool:
        """Whether each component has its own map."""
        return self._map is not None and bool(self._map.batch_shape)

    def log_prob_of(self, z: Tensor, point: Tensor, component: Tensor) -> Tensor:
        transform = self._map
        log_prob = None if transform is None else transform.pairwise_log_prob(self.base_dist, z, (point, component))
        return super().log_prob_of(z, point, component) if log_prob is None else log_prob

    def pairwise_log_prob(self, z: Float[Tensor, "*points latent"]) -> Float[Tensor, "*points components"]:
        """log q_k(z_n) for every point and component, in the precision of `z`."""
        if (transform := self._map) is None:
            return super().pairwise_log_prob(z)
        if not transform.batch_shape:
            # One map for all components: invert once, then the base's mixture.
            x = transform.inv(z)
            self._check_inverse(z)
            return self.base_dist.pairwise_log_prob(x) - transform.log_abs_det_jacobian(x, z).unsqueeze(-1)
        if (log_prob := transform.pairwise_log_prob(self.base_dist, z)) is not None:
            return log_prob
        points = z.reshape(-1, 1, z.shape[-1])
        # Without gradients nothing is kept: blocks of points keep (points, K, latent) small.
        portions = [points] if torch.is_grad_enabled() else blocks(points, self.base_dist.loc.numel())
        return torch.cat([self.log_prob(block) for block in portions]).reshape(*z.shape[:-1], *self.batch_shape)

    def __repr__(self) -> str:
        return f"FlowDistribution({self.base_dist} → {self.transform})"
