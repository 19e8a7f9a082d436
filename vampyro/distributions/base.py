"""The contract of our distributions: what each has beside Pyro's, with the general algorithm as the default."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor


class Distribution(TorchDistribution):
    """A Pyro distribution that can be the components of a `Mixture`, and says what to do where a moment is missing.

    A subclass must have what every Pyro distribution must: `arg_constraints`, `support`, `log_prob(z)` and `sample` (or
    `rsample` and `has_rsample`), in the precision of z where a likelihood is to be reported in float64. It may have,
    with K components as its batch shape (K,) and with N points:

    - `changed(change)`: the same with other parameters; `expand` and `select` follow from it.
    - `pairwise_log_prob(z)`: every point under every component, K numbers for each; by broadcasting here.
    - `log_prob_of(z, n, k)`: pairs of point and component, (P,); asked for only where `costly`.
    - `straight_through()`: the same with a gradient, where it has no `rsample`; itself here.
    - `mean`, `variance`, `entropy()`: an error here that says how to estimate them: `instead`, where {estimate} is the
      usual way, by samples of `symbol`.

    Of other distributions, torch's or Pyro's, the functions that ask for these take the defaults.

    >>> class Laplace(Distribution):
    ...     arg_constraints, support = {}, torch.distributions.constraints.real
    ...     def __init__(self, loc):
    ...         self.loc = loc
    ...         super().__init__(loc.shape, validate_args=False)
    ...     def changed(self, change: Callable[[Tensor], Tensor]) -> "Distribution":
    ...         return Laplace(change(self.loc))
    ...     def log_prob(self, z: Tensor) -> Tensor:
    ...         return -(z - self.loc).abs() - torch.tensor(2.0).log()
    >>> p = Laplace(torch.zeros(3))
    >>> p, p.expand((2, 3)), p.select(torch.tensor([0, 0])), p.pairwise_log_prob(torch.zeros(5)).shape
    (Laplace(batch 3), Laplace(batch 2×3), Laplace(batch 2), torch.Size([5, 3]))
    """

    symbol = "p"
    instead = "{estimate} estimates it"

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Distribution | None":
        """The same with change(t) for each parameter t, (*batch, …), unchecked; None where these have no such shape."""
        return None

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "Distribution":
        """The same with that batch shape; the shape alone changes where parameters do not have the batch's.

        Raises:
            ValueError: where the batch shape does not expand to that.
        """
        check_expand(self, batch_shape)
        shape, own = torch.Size(batch_shape), len(self.batch_shape)
        new = self.changed(lambda t: t.expand(shape + t.shape[own:]))
        if new is None:
            return self.reshaped(shape)
        new._validate_args = self._validate_args
        return new

    def reshaped(self, batch_shape: torch.Size, **attributes: Any) -> "Distribution":
        """A copy with another batch shape and these attributes, nothing computed again."""
        new = copy.copy(self)
        new.__dict__.update(_batch_shape=batch_shape, **attributes)
        return new

    def select(self, index: Any, dtype: torch.dtype | None = None) -> "Distribution | None":
        """Those of the batch, by their index, in that precision or their own; None where they cannot be told apart."""
        return self.changed(lambda t: t[index].to(dtype or t.dtype))

    def pairwise_log_prob(self, z: Tensor) -> Tensor:
        """log p_k(z_n) of every point under every member of the batch (K,): (..., *event) → (..., K), nats."""
        return self.log_prob(z.unsqueeze(-1 - len(self.event_shape)))

    @property
    def costly(self) -> bool:
        """Whether a pair costs so much in float64 that float32 should say first which matter, for `log_prob_of`."""
        return False

    def log_prob_of(self, z: Tensor, point: Tensor, component: Tensor) -> Tensor:
        """log p_k(z_n) of the pairs at those indices, (P,), in the precision of z, (N, *event)."""
        chosen = self.select(component, z.dtype)
        if chosen is None:
            raise NotImplementedError(f"{type(self).__name__} is costly and has neither log_prob_of nor changed")
        return chosen.log_prob(z[point])

    def straight_through(self) -> "Distribution":
        """The same with a gradient, biased, through its draws; itself where there is none."""
        return self

    def _no_closed_form(self, name: str) -> NotImplementedError:
        estimate = {
            "mean": "{0}.sample((1000,)).mean(0)",
            "variance": "{0}.sample((1000,)).var(0)",
            "entropy": "-{0}.log_prob({0}.sample((1000,))).mean(0)",
        }[name].format(self.symbol)
        advice = self.instead.format(name=name, estimate=estimate)
        return NotImplementedError(f"{name}: {self} has no closed-form {name}; {advice}")

    @property
    def mean(self) -> Tensor:
        try:
            return super().mean
        except NotImplementedError:
            raise self._no_closed_form("mean") from None

    @property
    def variance(self) -> Tensor:
        try:
            return super().variance
        except NotImplementedError:
            raise self._no_closed_form("variance") from None

    def entropy(self) -> Tensor:
        try:
            return super().entropy()
        except NotImplementedError:
            raise self._no_closed_form("entropy") from None

    def __repr__(self) -> str:
        event = [f"event {times(self.event_shape)}"] if self.event_shape else []
        return f"{type(self).__name__}({', '.join([f'batch {times(self.batch_shape)}', *event])})"


def pairwise_log_prob(components: torch.distributions.Distribution, z: Tensor) -> Tensor:
    """log p_k(z_n) of every point under every component: (..., *event) → (..., K), nats; of any distribution.

    >>> pairwise_log_prob(torch.distributions.Normal(torch.zeros(3), 1.0), torch.zeros(5)).shape
    torch.Size([5, 3])
    """
    if isinstance(components, Distribution):
        return components.pairwise_log_prob(z)
    return components.log_prob(z.unsqueeze(-1 - len(components.event_shape)))


def times(shape: Sequence[int]) -> str:
    """A shape as a `repr` writes it: 2×3, and () where it is empty."""
    return "×".join(map(str, shape)) or "()"


def broadcasts_to(shape: Sequence[int], batch: Sequence[int]) -> bool:
    """Return whether `shape` broadcasts to `batch`."""
    try:
        return torch.broadcast_shapes(shape, batch) == tuple(batch)
    except RuntimeError:
        return False


def check_expand(distribution: torch.distributions.Distribution, batch_shape: Sequence[int]) -> None:
    """Raise where `distribution.expand(batch_shape)` is not possible.

    Raises:
        ValueError: names both shapes.

    >>> check_expand(torch.distributions.Normal(torch.zeros(3), 1.0), (2, 4))
    Traceback (most recent call last):
    ValueError: batch_shape is (2, 4), expected one that (3,), the batch shape of the Normal, expands to
    """
    if not broadcasts_to(distribution.batch_shape, batch_shape):
        own = tuple(distribution.batch_shape)
        name = type(distribution).__name__
        raise ValueError(
            f"batch_shape is {tuple(batch_shape)}, expected one that {own}, the batch shape of the {name}, expands to"
        )


CACHED_NUMBERS = 2**20  # made at a time on a CPU, in whose caches they should stay; elsewhere 64 times as many


def blocks(points: Tensor, numbers: int) -> tuple[Tensor, ...]:
    """Points (N, …) in portions of equal length, but for the last, where each makes so many numbers.

    >>> [len(block) for block in blocks(torch.zeros(2048, 2), numbers=1000)]
    [1024, 1024]
    """
    most = CACHED_NUMBERS if points.device.type == "cpu" else 64 * CACHED_NUMBERS
    return points.chunk(max(1, -(-len(points) * numbers // most)))
