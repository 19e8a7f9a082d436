"""Invertible maps, and the distribution of the image of a sample under one."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any, cast

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Transform, constraints

from vampyro.distributions.base import Distribution, blocks
from vampyro.distributions.normal import DiagonalNormal


class Bijection(Transform):
    """An invertible map of vectors (..., latent) → (..., latent).

    A subclass computes

        push(x) → y, log |det ∂y/∂x|
        pull(y) → x, log |det ∂y/∂x|, the same sign

    where the log-determinant is (...), or a number where it is the same everywhere: 0.0 of a rotation.

    It has `length`, `latent` (None where it maps vectors of any size), and `batch_shape`, that of its parameters:
    () where one map serves every point; (K,) where component k has its own map, for points (..., K, latent).
    Its tensors are attributes of shape (*batch_shape, …), which `select` indexes; otherwise override `_index`.

    The last pair is remembered, so that scoring one's own sample is free, unless it was changed in place or lacks the
    gradients that are wanted now.

    >>> class Mirror(Bijection):
    ...     batch_shape, length = (), 1
    ...     def push(self, x):
    ...         return x.flip(-1), 0.0
    ...     pull = push
    >>> Mirror().log_abs_det_jacobian(torch.randn(5, 2), None)
    tensor([0., 0., 0., 0., 0.])
    """

    domain = codomain = constraints.real_vector
    bijective = True
    latent: Any = None
    length: Any
    batch_shape: Any

    def __init__(self):
        super().__init__(cache_size=1)
        self._forget()

    def _forget(self):
        self._cached_x_y: Any = None, None
        self._log_det: Any = None  # of that pair, as what follows
        self._has_graph, self._state = False, None

    @property
    def inv(self) -> Transform:
        inverse = super().inv
        self._inv = None  # a cycle of the two would keep a graph alive until garbage is collected
        return inverse

    def __call__(self, x: Tensor) -> Tensor:
        self._forget_stale_pair()
        y = super().__call__(x)
        self._state = self._state_of_pair()
        return y

    def _inv_call(self, y):
        self._forget_stale_pair()
        x = super()._inv_call(y)
        self._state = self._state_of_pair()
        return x

    def _forget_stale_pair(self):
        without_graph = torch.is_grad_enabled() and not self._has_graph
        if without_graph or self._state != self._state_of_pair():
            self._cached_x_y = None, None

    def _state_of_pair(self):
        """A value that changes where one of the two is changed in place, as by an optimiser, or requires gradients."""
        return [t is None or t.is_inference() or (t._version, t.requires_grad) for t in self._cached_x_y]

    def _call(self, x):
        return self._compute(self.push, x)[0]

    def _inverse(self, y):
        return self._compute(self.pull, y)[0]

    def _compute(self, way, x):
        """The other end of the pair, and the log-determinant as a tensor."""
        if self.latent not in (None, x.shape[-1]):  # parameters of one dimension would broadcast
            raise ValueError(
                f"{self} maps vectors of {self.latent}, got {x.shape[-1]}: build the flow with that latent"
            )
        other, log_det = way(x)
        if not isinstance(log_det, torch.Tensor):
            log_det = x.new_full(x.shape[:-1], log_det)
        if self._cache_size:
            self._log_det, self._has_graph = log_det, torch.is_grad_enabled()
        return other, log_det

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor | None) -> Tensor:
        self._forget_stale_pair()
        if not self._cache_size:
            return self._compute(self.push, x)[1]
        if self._cached_x_y[0] is not x:
            self(x)
        return self._log_det

    def with_cache(self, cache_size: int = 1) -> "Bijection":
        """Return the same map that remembers its last pair (1) or none (0)."""
        if cache_size not in (0, 1):
            raise ValueError(f"cache_size is {cache_size}, expected 0 or 1")
        if cache_size == self._cache_size:
            return self
        new = self._copy()
        new._cache_size = cache_size
        return new

    def _copy(self):
        """A copy without a pair or an inverse."""
        new = copy.copy(self)
        new._forget()
        new._inv = None
        return new

    def push(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        """y, and log |det ∂y/∂x|."""
        raise NotImplementedError

    def pull(self, y: Tensor) -> tuple[Tensor, Tensor | float]:
        """x, and log |det ∂y/∂x|."""
        raise NotImplementedError

    def pairwise_log_prob(
        self, base: DiagonalNormal, z: Tensor, pairs: tuple[Tensor, Tensor] | None = None
    ) -> Tensor | None:
        """The density of T_k(base_k) at every z_n, (..., K), or of `pairs` of indices (n, k), (P,), nats, in the
        precision of z; None here, where nothing is faster than inverting every point for every component.
        """
        return None

    def select(self, index: Any, dtype: torch.dtype) -> "Bijection":
        """The maps of the batch members at that index, in that precision; itself where one map serves all."""
        if not self.batch_shape:
            return self
        new = self._copy()
        new._index(index, dtype)
        return new

    def _index(self, index, dtype):
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(self, name, value[index].to(dtype))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(length={self.length})"


TOLERANCE = 1e-4  # of map(inverse(z)) - z, relative where z is above 1


class FlowDistribution(Distribution, dist.TransformedDistribution):
    """log q(z) = log base(x) - log |det ∂T(x)/∂x|, z = T(x)   (Rezende & Mohamed 2015, arXiv:1505.05770).

    The base is over vectors (latent,). The transform is a `Bijection` of `batch_shape` () or the base's. A sample is
    scored from the transform's cache; every other point is inverted. Under Pyro's validation `log_prob` warns where
    the map does not take the inverse back to the point, as a flow with very large weights is too steep for float32.

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
