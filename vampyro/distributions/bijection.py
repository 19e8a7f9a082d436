"""The base class of the invertible maps in flows. A map remembers its last point, image and log-determinant."""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Transform, constraints

from vampyro.distributions.normal import DiagonalNormal


class Bijection(Transform):
    """An invertible map of vectors (..., latent) → (..., latent).

    A subclass computes

        push(x) → y, log |det ∂y/∂x|
        pull(y) → x, log |det ∂y/∂x|, the same sign

    where the log-determinant is (...), or a number where it is the same everywhere: 0.0 of a rotation.

    It has `length`, `latent` (None where it maps vectors of any size), and `batch_shape`, that of its parameters:
    () where one map serves every point; (K,) where component k has its own map, for points (..., K, latent).
    Its tensors are attributes of shape (*batch_shape, …), which `select` indexes. Where one has no such batch, override
    `_index`.

    The last pair is remembered, so that scoring one's own sample is free. A pair that was computed without gradients
    is forgotten where they are wanted, and so is one that was changed in place.

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
        """The density of T_k(base_k) at every z_n, (..., K), or of the pairs (n, k), (P,), nats, in the precision of z.

        Args:
            base: the components' bases, batch shape (K,).
            z: (..., latent); with `pairs` (N, latent).
            pairs: two tensors (P,) of indices, or None for all pairs.

        Returns:
            None here: nothing is faster than inverting every point for every component.
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
