"""Distributions over M vectors, each one of the K codes in a codebook."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Categorical, constraints, register_kl

from vampyro.distributions.base import Distribution, times


def one_hot(z: Float[Tensor, "*batch latent"], codebook: Float[Tensor, "codes d"]) -> Bool[Tensor, "*batch m codes"]:
    """Which code each vector of z equals: (..., M·d) → (..., M, K) truth values, all false where it is not a code.

    >>> one_hot(torch.tensor([1.0, 1.0, 0.0, 0.0]), codebook=torch.tensor([[0.0, 0.0], [1.0, 1.0]])).tolist()
    [[False, True], [True, False]]
    """
    return (z.unflatten(-1, (-1, 1, codebook.shape[-1])) == codebook).all(-1)


def squared_distances(
    z: Float[Tensor, "*batch latent"], codebook: Float[Tensor, "codes d"]
) -> Float[Tensor, "*batch m codes"]:
    """‖z_m - e_k‖² of every vector and code: (..., M·d) → (..., M, K)."""
    return (z.unflatten(-1, (-1, 1, codebook.shape[-1])) - codebook).square().sum(-1)


def _drawn(logits, sample_shape=torch.Size()):
    """Indices k ~ softmax(logits); any index where these are NaN, which would stop a CUDA device."""
    return Categorical(logits=logits.nan_to_num(0.0, -math.inf, -math.inf), validate_args=False).sample(sample_shape)


class CodeVectors(constraints.Constraint):
    """The finite set of vectors made of M codes of a codebook."""

    is_discrete, event_dim = True, 1

    def __init__(self, codebook: Tensor):
        self.codebook = codebook

    def check(self, value: Tensor) -> Tensor:
        return one_hot(value, self.codebook).any(-1).all(-1)

    def __repr__(self) -> str:
        return f"CodeVectors({len(self.codebook)} codes)"  # torch's own drops the first letter


class CodeDistribution(Distribution):
    """A distribution over vectors of M codes of a codebook (K, d), an attribute: event shape (M·d,)."""

    codebook: Tensor
    arg_constraints = {}

    @property
    def support(self) -> constraints.Constraint:
        return CodeVectors(self.codebook)

    def one_hot(self, z: Float[Tensor, "*batch latent"]) -> Bool[Tensor, "*batch m codes"]:
        return one_hot(z, self.codebook)

    def __repr__(self) -> str:
        (count, dimension), (event,) = self.codebook.shape, self.event_shape
        batch = f"batch {times(self.batch_shape)}, " if self.batch_shape else ""
        return f"{type(self).__name__}({count}^{event // dimension} vectors, {batch}event {event})"


class Codes(CodeDistribution):
    """Π_m Cat(k_m; softmax(logits_m)), z = (e_{k_1}, …, e_{k_M}), with logits (..., M, K) and a codebook (K, d).

    `log_prob` is -∞ off the K^M points, and computes in the precision of z. The codes must be distinct.

    >>> p = Codes(torch.zeros(5, 3), codebook=torch.eye(3))
    >>> p, p.log_prob(p.sample((2,)))
    (Codes(3^5 vectors, event 15), tensor([-5.4931, -5.4931]))
    """

    def __init__(
        self,
        logits: Float[Tensor, "*batch m codes"],
        codebook: Float[Tensor, "codes d"],
        validate_args: bool | None = None,
    ):
        self.log_probs, self.codebook = logits.log_softmax(-1), codebook
        event = torch.Size([logits.shape[-2] * codebook.shape[-1]])
        super().__init__(logits.shape[:-2], event, validate_args=validate_args)

    def with_parameters(self, change: Callable[[Tensor], Tensor]) -> "Distribution":
        log_probs = change(self.log_probs)
        return self.with_batch_shape(log_probs.shape[:-2], log_probs=log_probs)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return self.codebook[_drawn(self.log_probs, sample_shape)].flatten(-2)

    def log_prob(self, z: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(z)
        hot = self.one_hot(z)
        log_prob = torch.where(hot, self.log_probs.to(z.dtype), 0.0).sum((-1, -2))
        return log_prob.masked_fill(~hot.any(-1).all(-1), -math.inf)

    def pairwise_log_prob(self, z: Float[Tensor, "*points latent"]) -> Float[Tensor, "*points components"]:
        """As that of `Distribution`, by one matrix product."""
        hot = self.one_hot(z)
        # 0 · -∞ would be NaN. So -∞ is the lowest number in the product, and what contains that is -∞ again.
        lowest = torch.finfo(z.dtype).min
        log_prob = hot.flatten(-2).to(z.dtype) @ self.log_probs.to(z.dtype).clamp(min=lowest).flatten(-2).mT
        impossible = (log_prob <= lowest / 2) | ~hot.any(-1).all(-1, keepdim=True)
        return log_prob.masked_fill(impossible, -math.inf)

    @property
    def mean(self) -> Tensor:
        return (self.log_probs.exp() @ self.codebook).flatten(-2)

    @property
    def variance(self) -> Tensor:
        return (self.log_probs.exp() @ self.codebook.square()).flatten(-2) - self.mean.square()

    def entropy(self) -> Tensor:
        return -_expected(self.log_probs, self.log_probs)


class AutoregressiveCodes(CodeDistribution):
    """Π_m Cat(k_m; softmax(logits_m(k_1 … k_{m-1}))), z = (e_{k_1}, …, e_{k_M}).

    Args:
        logits: one-hot codes (..., M·K) → (..., M·K); those of m depend on the codes before m alone. `log_prob` calls
            it once, `sample` M times.
        codebook, positions: (K, d), M.

    >>> p = AutoregressiveCodes(lambda codes: 0 * codes, codebook=torch.eye(3), positions=5)
    >>> p.log_prob(p.sample((2,)))
    tensor([-5.4931, -5.4931])
    """

    def __init__(
        self, logits: Callable[[Tensor], Tensor], codebook: Tensor, positions: int, validate_args: bool | None = None
    ):
        self.logits, self.codebook, self.positions = logits, codebook, positions
        event = torch.Size([positions * codebook.shape[-1]])
        super().__init__(torch.Size(), event, validate_args=validate_args)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        hot = self.codebook.new_zeros(*shape, self.positions, len(self.codebook))
        for m in range(self.positions):
            logits = self.logits(hot.flatten(-2)).unflatten(-1, hot.shape[-2:])[..., m, :]
            index = _drawn(logits)
            hot[..., m, :].scatter_(-1, index.unsqueeze(-1), 1.0)
        return self.codebook[hot.argmax(-1)].flatten(-2)

    def log_prob(self, z: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(z)
        hot = self.one_hot(z)
        logits = self.logits(hot.flatten(-2).to(self.codebook.dtype)).unflatten(-1, hot.shape[-2:])
        log_prob = torch.where(hot, logits.to(z.dtype).log_softmax(-1), 0.0).sum((-1, -2))
        log_prob = log_prob.masked_fill(~hot.any(-1).all(-1), -math.inf)
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))


class Quantised(CodeDistribution):
    """The point mass on the codes nearest to `encoded` (..., M·d), z_m = e_k, k = argmin_k ‖encoded_m - e_k‖².

    log q(z) = 0 there. `rsample` copies the gradient from z to `encoded`: the straight-through estimator of van den
    Oord et al. 2017 (arXiv:1711.00937).

    >>> q = Quantised(torch.tensor([0.9, 0.8, -0.1, 0.3]), codebook=torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    >>> q.rsample(), q.log_prob(q.rsample())
    (tensor([1., 1., 0., 0.]), tensor(0.))
    """

    has_rsample = True

    def __init__(
        self,
        encoded: Float[Tensor, "*batch latent"],
        codebook: Float[Tensor, "codes d"],
        validate_args: bool | None = None,
    ):
        self.encoded, self.codebook = encoded, codebook
        self.codes = codebook[squared_distances(encoded.detach(), codebook).argmin(-1)].flatten(-2)
        super().__init__(encoded.shape[:-1], encoded.shape[-1:], validate_args=validate_args)

    def with_parameters(self, change: Callable[[Tensor], Tensor]) -> "Distribution":
        encoded = change(self.encoded)
        return self.with_batch_shape(encoded.shape[:-1], encoded=encoded, codes=change(self.codes))

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        # The difference is exactly zero: z is a code to the last bit.
        z = self.codes + (self.encoded - self.encoded.detach())
        return z.expand(self._extended_shape(sample_shape))

    def log_prob(self, z: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(z)
        here = (z == self.codes).all(-1)
        return torch.zeros_like(here, dtype=z.dtype).masked_fill(~here, -math.inf)

    @property
    def mean(self) -> Tensor:
        return self.codes

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.codes)


@register_kl(Codes, Codes)
def _kl(q, p):
    """Σ_m Σ_k q_m(k) (log q_m(k) - log p_m(k)), over one codebook."""
    return _expected(q.log_probs, q.log_probs - p.log_probs)


def _expected(log_probs, values):
    """Σ_m Σ_k q_m(k) values, where 0 · ±∞ is 0."""
    return (log_probs.exp() * values.masked_fill(log_probs == -math.inf, 0.0)).sum((-1, -2))
