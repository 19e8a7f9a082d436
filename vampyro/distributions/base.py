"""The base class of our distributions: methods that Pyro's do not have, with the general algorithm as the default."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor


class Distribution(TorchDistribution):
    """A Pyro distribution that can be the components of a `Mixture`. Its errors say how to estimate a missing moment.

    A subclass must have what every Pyro distribution must: `arg_constraints`, `support`, `log_prob(z)` and `sample` (or
    `rsample` and `has_rsample`), in the precision of z where a likelihood is to be reported in float64. It may override
    the methods below. Distributions of torch or Pyro are treated by the defaults.

    >>> class Laplace(Distribution):
    ...     arg_constraints, support = {}, torch.distributions.constraints.real
    ...     def __init__(self, loc):
    ...         self.loc = loc
    ...         super().__init__(loc.shape, validate_args=False)
    ...     def with_parameters(self, change: Callable[[Tensor], Tensor]) -> "Distribution":
    ...         return Laplace(change(self.loc))
    ...     def log_prob(self, z: Tensor) -> Tensor:
    ...         return -(z - self.loc).abs() - torch.tensor(2.0).log()
    >>> p = Laplace(torch.zeros(3))
    >>> p, p.expand((2, 3)), p.select(torch.tensor([0, 0])), p.pairwise_log_prob(torch.zeros(5)).shape
    (Laplace(batch 3), Laplace(batch 2×3), Laplace(batch 2), torch.Size([5, 3]))
    """

    symbol = "p"  # for the distribution, in errors
    instead = "{estimate} estimates it"  # the advice of an error about a moment {name}

    def with_parameters(self, change: Callable[[Tensor], Tensor]) -> "Distribution | None":
        """The same with change(t) for each parameter t, (*batch, …), for `expand` and `select`; None if undefined."""
        return None

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "Distribution":
        """The same with that batch shape; a ValueError where the present one does not expand to it."""
        shape, own = torch.Size(batch_shape), tuple(self.batch_shape)
        if not broadcasts_to(own, shape):
            expected = f"one that {own}, the batch shape of the {type(self).__name__}, expands to"
            raise ValueError(f"batch_shape is {tuple(shape)}, expected {expected}")
        new = self.with_parameters(lambda t: t.expand(shape + t.shape[len(own) :]))
        if new is None:
            return self.with_batch_shape(shape)
        new._validate_args = self._validate_args
        return new

    def with_batch_shape(self, batch_shape: Sequence[int], **attributes: Any) -> "Distribution":
        """A copy with another batch shape and these attributes, nothing computed again."""
        new = copy.copy(self)
        new.__dict__.update(_batch_shape=torch.Size(batch_shape), **attributes)
        return new

    def select(self, index: Any, dtype: torch.dtype | None = None) -> "Distribution | None":
        """The batch members at that index, in that precision or their own; None where `changed` is not defined."""
        return self.with_parameters(lambda t: t[index].to(dtype or t.dtype))

    def pairwise_log_prob(self, z: Tensor) -> Tensor:
        """log p_k(z_n) of every point under every member of the batch (K,): (..., *event) → (..., K), nats."""
        return self.log_prob(z.unsqueeze(-1 - len(self.event_shape)))

    @property
    def costly(self) -> bool:
        """Whether to screen components in float32 before scoring the relevant ones in float64, by `log_prob_of`."""
        return False

    def log_prob_of(self, z: Tensor, point: Tensor, component: Tensor) -> Tensor:
        """log p_k(z_n) of the pairs at those indices, (P,), in the precision of z, (N, *event)."""
        chosen = self.select(component, z.dtype)
        if chosen is None:
            raise NotImplementedError(f"{type(self).__name__} is costly and has neither log_prob_of nor changed")
        return chosen.log_prob(z[point])

    def straight_through(self) -> "Distribution":
        """The same with a biased gradient through its samples; itself where there is no such estimator."""
        return self

    @contextmanager
    def _closed_form(self, name: str) -> Iterator[None]:
        """Inside, a missing moment is an error that says how to estimate it."""
        try:
            yield
        except NotImplementedError:
            estimate = {
                "mean": "{0}.sample((1000,)).mean(0)",
                "variance": "{0}.sample((1000,)).var(0)",
                "entropy": "-{0}.log_prob({0}.sample((1000,))).mean(0)",
            }[name].format(self.symbol)
            advice = self.instead.format(name=name, estimate=estimate)
            raise NotImplementedError(f"{name}: {self} has no closed-form {name}; {advice}") from None

    @property
    def mean(self) -> Tensor:
        with self._closed_form("mean"):
            return super().mean

    @property
    def variance(self) -> Tensor:
        with self._closed_form("variance"):
            return super().variance

    def entropy(self) -> Tensor:
        with self._closed_form("entropy"):
            return super().entropy()

    def __repr__(self) -> str:
        event = [f"event {times(self.event_shape)}"] if self.event_shape else []
        return f"{type(self).__name__}({', '.join([f'batch {times(self.batch_shape)}', *event])})"


def pairwise_log_prob(components: torch.distributions.Distribution, z: Tensor) -> Tensor:
    """`Distribution.pairwise_log_prob` for any distribution.

    >>> pairwise_log_prob(torch.distributions.Normal(torch.zeros(3), 1.0), torch.zeros(5)).shape
    torch.Size([5, 3])
    """
    if isinstance(components, Distribution):
        return components.pairwise_log_prob(z)
    return components.log_prob(z.unsqueeze(-1 - len(components.event_shape)))


def times(shape: Sequence[int]) -> str:
    """A shape as text: 2×3, and () where it is empty."""
    return "×".join(map(str, shape)) or "()"


def broadcasts_to(shape: Sequence[int], batch: Sequence[int]) -> bool:
    """Return whether `shape` broadcasts to `batch`."""
    try:
        return torch.broadcast_shapes(shape, batch) == tuple(batch)
    except RuntimeError:
        return False


CACHED_NUMBERS = 2**20  # computed at a time, to fit the cache of a CPU; 64 times as many elsewhere


def blocks(points: Tensor, numbers: int) -> tuple[Tensor, ...]:
    """Points (N, …) in blocks of equal length, but for the last; `numbers` are computed for each point.

    >>> [len(block) for block in blocks(torch.zeros(2048, 2), numbers=1000)]
    [1024, 1024]
    """
    most = CACHED_NUMBERS if points.device.type == "cpu" else 64 * CACHED_NUMBERS
    return points.chunk(max(1, -(-len(points) * numbers // most)))
