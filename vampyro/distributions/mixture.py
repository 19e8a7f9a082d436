"""Mixtures of any component distributions, scored without a tensor of points × components × dimensions."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import constraints

from vampyro.distributions import gemm
from vampyro.distributions.base import Distribution, blocks, pairwise_log_prob

MIN_SCREENED = 32  # components; fewer are all scored in float64, to its last digit
NEGLIGIBLE_SHARE = 1e-6  # of the largest component, below which float32 is exact enough
MAX_RELEVANT = 1 / 16  # of all pairs of point and component: if more of them matter, all are scored in float64
PAIRS_AT_A_TIME = 4096  # about


class Mixture(Distribution):
    """p(z) = Σ_k π_k p_k(z), with π_k = 1/K or softmax(logits)_k.

    Args:
        components: a distribution of batch shape (K,), a `Distribution` or any other.
        logits: (K,), or None for equal weights.

    `log_prob` computes in the precision of its argument: a reported likelihood is `log_prob(z.double())`. It disables
    autocast, whose rounding costs whole nats here.

    Raises:
        ValueError: where `components` does not have one batch dimension, or `logits` another length.
        RuntimeError: at scoring, where torch is set to multiply float32 matrices in fewer bits.

    >>> from vampyro.distributions import DiagonalNormal
    >>> p = Mixture(DiagonalNormal(torch.tensor([[-5.0], [5.0]]), torch.ones(2, 1)))
    >>> p, round(p.log_prob(torch.tensor([5.0])).item(), 4)        # log ½ + log N(0; 0, 1)
    (Mixture(2 × DiagonalNormal, equal weights), -1.6121)
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

    @property
    def mean(self) -> Tensor:
        """Σ_k π_k E_k[z]."""
        with self._closed_form("mean"):
            return self._average(self.components.mean).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        """Σ_k π_k (Var_k[z] + (E_k[z] - E[z])²)."""
        with self._closed_form("variance"):
            variances, means = self.components.variance, self.components.mean
        spread = variances + (means - self._average(means)).square()
        return self._average(spread).expand(self.batch_shape + self.event_shape)

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
        else:  # nothing is kept: an aggregated posterior has a component for every training image
            points = blocks(z.reshape(-1, *self.event_shape), self.components.batch_shape[0])
            log_prob = torch.cat([self._without_gradient(block) for block in points])
            log_prob = log_prob.reshape(z.shape[: z.ndim - len(self.event_shape)])
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    @property
    def refines(self) -> bool:
        """Whether to screen components in float32 before scoring the relevant ones in float64."""
        ours = isinstance(self.components, Distribution)
        return self.components.batch_shape[0] >= MIN_SCREENED and ours and self.components.costly

    def _without_gradient(self, z):
        """log p(z_n), (N,). Of components that are expensive in float64, only the relevant ones are scored there.

        All are scored in float32 first. The sum of those below NEGLIGIBLE_SHARE of the largest one is added as it is:
        it is less than K·NEGLIGIBLE_SHARE of the result, so its error is no more than rounding.
        """
        if z.dtype != torch.float64 or self.components.batch_shape[0] < MIN_SCREENED or not len(z):
            return self.component_log_prob(z).logsumexp(-1)
        if not self.refines:
            return _logsumexp(self.component_log_prob(z))
        rest, matters = self.find(z.float())
        if matters.sum() > MAX_RELEVANT * matters.numel():
            return _logsumexp(self.component_log_prob(z))
        pairs = PAIRS_AT_A_TIME if z.device.type == "cpu" else 256 * PAIRS_AT_A_TIME  # a cache's fill, or a GPU's
        size, fine = max(1, int(len(z) * pairs / matters.sum())), []
        for points, chosen in zip(z.split(size), matters.split(size)):
            n, k = chosen.nonzero(as_tuple=True)
            log_prob = self.components.log_prob_of(points, n, k) + self._log_weight(z.dtype, k)
            fine.append(_logsumexp_by(n, log_prob, len(points)))
        return torch.logaddexp(torch.cat(fine), rest.to(z.dtype))

    def find(self, z: Float[Tensor, "n ..."]) -> tuple[Float[Tensor, " n"], Bool[Tensor, "n components"]]:
        """The log of the sum of the irrelevant components at each point, (N,), and which components are relevant."""
        rough = self.component_log_prob(z)
        # NaN, where z left float32's range, is relevant too.
        matters = ~(rough - rough.amax(-1, keepdim=True) < math.log(NEGLIGIBLE_SHARE))
        return rough.masked_fill(matters, -math.inf).logsumexp(-1), matters

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw a component for each point by its weight, then the point."""
        shape = torch.Size(sample_shape) + self.batch_shape
        if not shape.numel():
            return self.components.sample((0,))[:, 0].reshape(shape + self.event_shape)
        count = self.components.batch_shape[0]
        weights = torch.ones(count) if self.logits is None else self.logits.softmax(-1)
        index = torch.multinomial(weights, shape.numel(), replacement=True)
        chosen = self.components.select(index) if isinstance(self.components, Distribution) else None
        if chosen is not None:
            return chosen.sample().reshape(shape + self.event_shape)
        # Every component draws as often as the most frequent one. Point n takes draw rank[n] of component index[n],
        # where rank counts the earlier points of the same component.
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
    """Over the last dimension, to 1e-7: the exponentials are float32."""
    peak = values.amax(-1, keepdim=True).clamp(min=torch.finfo(values.dtype).min)
    return peak.squeeze(-1) + (values - peak).float().exp().sum(-1).to(values.dtype).log()


def _logsumexp_by(index, values, size):
    """log Σ exp of the values that have the same index: (size,)."""
    peak = torch.full((size,), -math.inf, dtype=values.dtype, device=values.device)
    peak = peak.scatter_reduce(0, index, values, "amax")
    total = torch.zeros_like(peak).index_add(0, index, (values - peak[index]).exp())
    return peak + total.log()
