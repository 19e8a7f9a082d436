"""A base distribution seen through an invertible map."""

import warnings

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from vampyro.distributions.base import Distribution, blocks
from vampyro.distributions.bijection import Bijection
from vampyro.distributions.normal import DiagonalNormal

TOLERANCE = 1e-4  # of a point that goes through the inverse and back through the map, relative where it is above 1


class FlowDistribution(Distribution, dist.TransformedDistribution):
    """log q(z) = log base(x) - log |det ∂T(x)/∂x|, z = T(x)   (Rezende & Mohamed 2015, arXiv:1505.05770).

    Args:
        base: a distribution over vectors, batch shape (...,), event shape (latent,).
        transform: one of `flows`' transforms; its parameters' `batch_shape` is () or the base's.

    A sample is scored from the transform's cache; every other point is inverted exactly. A flow has no closed-form
    mean or variance: `q.sample((1000,)).mean(0)` estimates the mean.

    Under Pyro's validation, which training switches off after its first step, `log_prob` warns where the map does not
    take the inverse back to the point: a flow with very large weights is too steep for float32.

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
        super().__init__(base, [transform], validate_args=validate_args)
        self.transform = transform

    def log_prob(self, value):
        log_prob = super().log_prob(value)
        self._check_inverse(value)
        return log_prob

    @torch.no_grad()
    def _check_inverse(self, z):
        map_is_ours = isinstance(self.transform, Bijection)
        if not self._validate_args or not map_is_ours or torch._C._are_functorch_transforms_active():
            return
        error = (self.transform.push(self.transform.inv(z))[0] - z).abs() / z.abs().clamp(
            min=1
        )  # the inverse is remembered
        if (error > TOLERANCE).any():
            warnings.warn(
                f"{self.transform} is too steep for {z.dtype}: the map takes the inverse of a point to another, "
                f"{error.max():.1g} away, and the log-probability is that of the other; at most {TOLERANCE:g} is "
                "expected. Score z.double(), or train with a lower learning rate: the flow's weights are very large.",
                stacklevel=4,
            )

    @property
    def _has_algebra(self) -> bool:
        """Whether there is more to do than to broadcast: the base's algebra and a map whose batch is known."""
        return isinstance(self.base_dist, DiagonalNormal) and isinstance(self.transform, Bijection)

    def expand(self, batch_shape, _instance=None):
        new = FlowDistribution(self.base_dist.expand(batch_shape), self.transform, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def select(self, index, dtype=None):
        if not self._has_algebra:
            return None
        base = self.base_dist.select(index, dtype)
        return FlowDistribution(base, self.transform.select(index, base.loc.dtype), validate_args=False)

    @property
    def costly(self):
        """Where each component has a map of its own."""
        return self._has_algebra and bool(self.transform.batch_shape)

    def log_prob_of(self, z, point, component):
        log_prob = self.transform.pairwise_log_prob(self.base_dist, z, (point, component))
        return super().log_prob_of(z, point, component) if log_prob is None else log_prob

    def pairwise_log_prob(self, z: Float[Tensor, "*points latent"]) -> Float[Tensor, "*points components"]:
        """log q_k(z_n) for every point and component, in the precision of `z`.

        Args:
            z: (..., latent); this distribution's batch shape must be (K,).

        Returns:
            (..., K), nats.
        """
        if not self._has_algebra:
            return super().pairwise_log_prob(z)
        if not self.transform.batch_shape:
            # One map for all components: invert once, then the base's mixture.
            x = self.transform.inv(z)
            self._check_inverse(z)
            return self.base_dist.pairwise_log_prob(x) - self.transform.log_abs_det_jacobian(x, z).unsqueeze(-1)
        if (log_prob := self.transform.pairwise_log_prob(self.base_dist, z)) is not None:
            return log_prob
        points = z.reshape(-1, 1, z.shape[-1])
        # Without gradients nothing need be kept: so many points at a time that (points, K, latent) stays small.
        portions = [points] if torch.is_grad_enabled() else blocks(points, self.base_dist.loc.numel())
        return torch.cat([self.log_prob(block) for block in portions]).reshape(*z.shape[:-1], *self.batch_shape)

    def __repr__(self):
        return f"FlowDistribution({self.base_dist} → {self.transform})"
