"""Mixtures of any component distributions, scored without a tensor of points × components × dimensions."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import constraints

from vampyro.distributions import gemm
from vampyro.distributions.base import Distribution, blocks, pairwise_log_prob

SCREENED_FROM = 32  # components; of fewer all are scored in float64, to its last digit
NEGLIGIBLE_SHARE = 1e-6  # of the largest component, below which float32 is exact enough
MOST_PAIRS = 1 / 16  # of all pairs of point and component: if more of them matter, all are scored in float64
PAIRS_AT_A_TIME = 4096  # about


class Mixture(Distribution):
    """p(z) = Σ_k π_k p_k(z), with π_k = 1/K or softmax(logits)_k.

    Args:
        components: a distribution of batch shape (K,). A `Distribution` is scored by its `pairwise_log_prob`, any
            other by broadcasting. Where it can `select` those of the batch, N points cost one draw of each; elsewhere
            every component draws as often as the busiest.
        logits: (K,), or None for equal weights.

    `log_prob` computes in the precision of its argument: `log_prob(z.double())` is how a
    reported likelihood is scored. It never runs under autocast, whose rounding costs whole nats here.

    Raises:
        ValueError: where `components` has not exactly one batch dimension or `logits` another length.
        RuntimeError: at scoring, where torch is set to multiply float32 matrices in fewer bits.

    >>> from vampyro.distributions import DiagonalNormal
    >>> p = Mixture(DiagonalNormal(torch.tensor([[-5.0], [5.0]]), torch.ones(2, 1)))
    >>> p
    Mixture(2 × DiagonalNormal, equal weights)
    >>> round(p.log_prob(torch.tensor([5.0])).item(), 4)        # log ½ + log N(0; 0, 1)
    -1.6121
    """

    arg_constraints = {}

    def __init__(
        self,
        components: torch.distributions.Distribution,
        logits: Float[Tensor, "..."] | None = None,
        validate_args: bool | None = None,
    ):
        if len(components.batch_shape) != 1:
            raise ValueError(f"Mixture expects components of batch shape (K,), got {tuple(components.batch_shape)}")
        if logits is not None and logits.shape != components.batch_shape:
            raise ValueError(f"Mixture expects {components.batch_shape[0]} logits, got shape {tuple(logits.shape)}")
        self.components: Any = components  # a Distribution, or torch's
        self.logits = logits
        super().__init__(torch.Size(), components.event_shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return self.components.support

    def unbatched(self) -> "Mixture":
        """Return the same mixture with batch shape (), as it was before it was expanded."""
        return self.reshaped(torch.Size())

    @property
    def mean(self) -> Tensor:
        """Σ_k π_k E_k[z]."""
        return self._average(self._of_components("mean")).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        """Σ_k π_k (Var_k[z] + (E_k[z] - E[z])²)."""
        variances, means = self._of_components("variance"), self._of_components("mean")
        spread = variances + (means - self._average(means)).square()
        return self._average(spread).expand(self.batch_shape + self.event_shape)

    def _of_components(self, name):
        """(K, *event)."""
        try:
            return getattr(self.components, name)
        except NotImplementedError as error:
            raise self._no_closed_form(name) from error

    def _average(self, values):
        """Σ_k π_k values_k: (K, *event) → (*event)."""
        weights = values.new_full((len(values),), 1 / len(values)) if self.logits is None else self.logits.softmax(-1)
        return torch.tensordot(weights.to(values.dtype), values, 1)

    def component_log_prob(self, z: Float[Tensor, "..."]) -> Float[Tensor, "... components"]:
        """log π_k p_k(z) for every component: (..., *event) → (..., K); its softmax is p(k | z)."""
        if not gemm.whole(z.device):
            raise RuntimeError(
                "a mixture needs whole float32 products, or log-probabilities are nats off: "
                'call torch.set_float32_matmul_precision("highest")'
            )
        z = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z  # their rounding costs nats
        with torch.autocast(z.device.type, enabled=False):
            log_prob = pairwise_log_prob(self.components, z)
        return log_prob + self._log_weight(z.dtype)

    def _log_weight(self, dtype, index=slice(None)):
        """log π_k: a number, or for those at `index`."""
        if self.logits is None:
            return -math.log(self.components.batch_shape[0])
        return self.logits.to(dtype).log_softmax(-1)[index]

    def log_prob(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        if self._validate_args:
            self._validate_sample(z)
        if torch.is_grad_enabled():
            log_prob = self.component_log_prob(z).logsumexp(-1)
        else:  # nothing need be kept: an aggregated posterior has a component for every training image
            points = z.reshape(-1, *self.event_shape)
            portions = blocks(points, self.components.batch_shape[0])
            log_prob = torch.cat([self._without_gradient(block) for block in portions])
            log_prob = log_prob.reshape(z.shape[: z.ndim - len(self.event_shape)])
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    @property
    def refines(self) -> bool:
        """Whether float64 is so dear that `log_prob` first finds the components that matter, in float32."""
        ours = isinstance(self.components, Distribution)
        return self.components.batch_shape[0] >= SCREENED_FROM and ours and self.components.costly

    def _without_gradient(self, z):
        """log p(z_n), (N,); for components that are dear in float64, there for those alone that matter to a point.

        All are scored in float32 first. Those that have more than NEGLIGIBLE_SHARE of the largest one are scored again
        in float64, and the others' sum is added as it is: it is less than K·NEGLIGIBLE_SHARE of the whole, and a few
        thousandths of that, as far as float32 can be off, are no more than the rounding of what is reported.
        """
        if z.dtype != torch.float64 or self.components.batch_shape[0] < SCREENED_FROM or not len(z):
            return self.component_log_prob(z).logsumexp(-1)
        if not self.refines:
            return _logsumexp(self.component_log_prob(z))
        rest, matters = self.find(z.float())
        if matters.sum() > MOST_PAIRS * matters.numel():
            return _logsumexp(self.component_log_prob(z))
        pairs = PAIRS_AT_A_TIME if z.device.type == "cpu" else 256 * PAIRS_AT_A_TIME  # a cache's fill, or a GPU's
        size, fine = max(1, int(len(z) * pairs / matters.sum())), []
        for points, chosen in zip(z.split(size), matters.split(size)):
            n, k = chosen.nonzero(as_tuple=True)
            log_prob = self.components.log_prob_of(points, n, k) + self._log_weight(z.dtype, k)
            fine.append(_logsumexp_by(n, log_prob, len(points)))
        return torch.logaddexp(torch.cat(fine), rest.to(z.dtype))

    def find(self, z: Float[Tensor, "n ..."]) -> tuple[Float[Tensor, " n"], Bool[Tensor, "n components"]]:
        """(N, K) which components matter to which point, and before it the log of the others' sum, (N,)."""
        rough = self.component_log_prob(z)
        # Not a number, where z left float32's range, matters too.
        matters = ~(rough - rough.amax(-1, keepdim=True) < math.log(NEGLIGIBLE_SHARE))
        return rough.masked_fill(matters, -math.inf).logsumexp(-1), matters

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draws a component for each point, at random by its weight, then the point."""
        shape = torch.Size(sample_shape) + self.batch_shape
        if not shape.numel():
            return self.components.sample((0,))[:, 0].reshape(shape + self.event_shape)
        count = self.components.batch_shape[0]
        weights = torch.ones(count) if self.logits is None else self.logits.softmax(-1)
        index = torch.multinomial(weights, shape.numel(), replacement=True)
        chosen = self.components.select(index) if isinstance(self.components, Distribution) else None
        if chosen is not None:
            return chosen.sample().reshape(shape + self.event_shape)
        # Every component draws as often as the busiest one is asked for; point n takes draw number
        # rank[n] of component index[n], where rank counts the earlier points of the same component.
        totals = index.bincount(minlength=count)
        order = index.argsort(stable=True)
        rank = torch.empty_like(index)
        rank[order] = torch.arange(len(index), device=index.device) - (totals.cumsum(0) - totals)[index[order]]
        draws = self.components.sample((int(totals.max()),))
        index, rank = index.to(draws.device), rank.to(draws.device)
        return draws[rank, index].reshape(shape + self.event_shape)

    def __repr__(self) -> str:
        weights = "equal" if self.logits is None else "learned"
        return f"Mixture({self.components.batch_shape[0]} × {type(self.components).__name__}, {weights} weights)"


def _logsumexp(values):
    """Over the last dimension; to 1e-7, as differences from the largest value are exponentials of float32."""
    peak = values.amax(-1, keepdim=True).clamp(min=torch.finfo(values.dtype).min)
    return peak.squeeze(-1) + (values - peak).float().exp().sum(-1).to(values.dtype).log()


def _logsumexp_by(index, values, size):
    """log Σ exp of the values that have the same index: (size,)."""
    peak = torch.full((size,), -math.inf, dtype=values.dtype, device=values.device)
    peak = peak.scatter_reduce(0, index, values, "amax")
    total = torch.zeros_like(peak).index_add(0, index, (values - peak[index]).exp())
    return peak + total.log()
