"""Estimates of log p(x) of N images, and how far they can be trusted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from vampyro.likelihood.weights import (
    MIN_SAMPLES,
    Missing,
    convergence,
    effective_sample_size,
    extrapolate,
    log_mean,
    pareto_k,
    pareto_limit,
    relative_error,
    sizes,
)
from vampyro.programs.estimate import Estimate, counted, or_none, standard_error

TENSORS = ("log_likelihood", "elbo", "ess", "pareto_k", "curve", "distinct")  # image by image


@dataclass(frozen=True)
class Score:
    """log p̂(x) of N images, nats per image, with what its importance weights say; float64 tensors.

    Attributes:
        log_likelihood: log p̂(x), (N,).
        elbo: the mean of the same log weights, (N,).
        ess: the effective sample size, 1 … samples, (N,).
        pareto_k: the weights' tail index k̂ (`vampyro.likelihood.weights.pareto_k`), (N,).
        curve: log p̂(x) from 1, 2, 4, … of the samples, (len(sizes(samples)), N).
        distinct: how many different values discrete latents had among the samples, (N,); 0 without discrete latents.
        samples: S; where `exact`, how many codes were summed.
        exact: log p(x) is a sum over all codes of discrete latents and `elbo` an exact expectation. There are no
            weights then: `ess` and `pareto_k` are NaN, and `curve` is empty.
    """

    log_likelihood: Float64[Tensor, " images"]
    elbo: Float64[Tensor, " images"]
    ess: Float64[Tensor, " images"]
    pareto_k: Float64[Tensor, " images"]
    curve: Float64[Tensor, "sizes images"]
    distinct: Float64[Tensor, " images"]
    samples: int
    exact: bool = False

    @classmethod
    def of(
        cls, log_w: Float64[Tensor, "samples images"], distinct: Float64[Tensor, " images"] | None = None
    ) -> "Score":
        """Summarise log weights, (samples, N); `distinct` where latents are discrete (`count_distinct`)."""
        if distinct is None:
            distinct = torch.zeros(log_w.shape[1:], dtype=torch.float64)
        # Equal weights of few codes are not a light tail.
        k = pareto_k(log_w).masked_fill((distinct > 0) & (distinct < MIN_SAMPLES), math.nan)
        statistics = log_mean(log_w), log_w.mean(0), effective_sample_size(log_w), k, convergence(log_w), distinct
        log_likelihood, elbo, ess, k, curve, distinct = (tensor.cpu() for tensor in statistics)
        return cls(log_likelihood, elbo, ess, k, curve, distinct, len(log_w))

    @classmethod
    def summed(cls, log_likelihood: Tensor, elbo: Tensor, codes: int) -> "Score":
        """A score that is exact: a sum over so many codes."""
        log_likelihood, elbo = log_likelihood.cpu(), elbo.cpu()
        unknown = torch.full_like(log_likelihood, math.nan)
        empty = log_likelihood.new_zeros(0, len(log_likelihood))
        return cls(log_likelihood, elbo, unknown, unknown, empty, torch.full_like(unknown, codes), codes, exact=True)

    @classmethod
    def cat(cls, scores: Sequence["Score"]) -> "Score":
        """Join the scores of several lists of images, in order."""
        joined: dict[str, Any] = {n: torch.cat([getattr(score, n) for score in scores], -1) for n in TENSORS}
        return replace(scores[0], **joined)

    def __getitem__(self, index) -> "Score":
        """The score of some of the images."""
        return replace(self, **{name: getattr(self, name)[..., index] for name in TENSORS})

    def __len__(self) -> int:
        return len(self.log_likelihood)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the tensors in the order of TENSORS."""
        return tuple(getattr(self, name) for name in TENSORS)

    @property
    def discrete(self) -> bool:
        """True where latents are discrete and were sampled: codes may be missing, and the weights do not show it."""
        return not self.exact and bool((self.distinct > 0).any())

    @property
    def monte_carlo_error(self) -> Float64[Tensor, " images"]:
        """The standard error of each log p̂(x), from the spread of its own weights; reliable where k̂ < 0.5.

        Zero where the score is exact, NaN where discrete latents were sampled: equal weights only say that no other
        code was sampled.
        """
        if self.exact:
            return torch.zeros_like(self.log_likelihood)
        if self.discrete:
            return torch.full_like(self.log_likelihood, math.nan)
        return relative_error(self.ess, self.samples)

    @property
    def standard_error(self) -> float:
        """The standard error of the mean log p̂(x) over images; NaN for a single one."""
        return standard_error(self.log_likelihood)

    @property
    def pareto_limit(self) -> float:
        """The k̂ above which this number of samples does not suffice."""
        return pareto_limit(self.samples)

    @property
    def heavy(self) -> int:
        """The number of images whose k̂ is above that limit."""
        return int((self.pareto_k > self.pareto_limit).sum())

    @property
    def missing(self) -> Missing | None:
        """Amount by which the mean is probably too low (`weights.extrapolate`); None where unknown."""
        return None if self.exact else extrapolate(self.curve, self.samples)

    def summary(self) -> dict:
        """The numbers that `results.json` keeps; None for what is not known."""
        known = not self.exact and not self.pareto_k.isnan().any()
        missing = self.missing
        return {
            "log_likelihood": self.log_likelihood.mean().item(),
            "standard_error": or_none(self.standard_error),
            "monte_carlo_error": or_none(Estimate(self.log_likelihood, self.monte_carlo_error).error.item()),
            "missing": None if missing is None else missing._asdict(),
            "elbo": self.elbo.mean().item(),
            "exact": self.exact,
            "samples": self.samples,
            "images": len(self),
            "distinct_median": self.distinct.median().item() if self.discrete else None,
            "ess_median": or_none(self.ess.median().item()),
            "pareto_k_median": self.pareto_k.median().item() if known and self.pareto_k.median().isfinite() else None,
            "pareto_k_limit": self.pareto_limit if known else None,
            "pareto_k_heavy": self.heavy if known else None,  # images above the limit
            "convergence": dict(zip(map(str, sizes(self.samples)), self.curve.mean(-1).tolist())),
        }

    @property
    def suffices(self) -> bool:
        """True where k̂ is within its limit for every image; always False for discrete latents that were sampled."""
        return self.exact or bool(not self.discrete and (self.pareto_k <= self.pareto_limit).all())

    @property
    def verdict(self) -> str:
        """Sentences that say whether the samples suffice and how much is probably missing."""
        return " ".join(self._sentences())

    def _sentences(self):
        limit, samples = f"{self.pareto_limit:.2f}", counted(self.samples, "sample")
        images = counted(len(self), "image")
        if self.exact:
            yield f"This value is exact: a sum over all {self.samples} codes of the latents."
            return
        if self.discrete:
            count = round(self.distinct.median().item())
            yield (
                "The Monte Carlo error is unknown: the latents are discrete, and a code that was not sampled leaves no "
                f"trace in the weights (in the median, the {samples} of an image contain "
                f"{counted(count, 'distinct code')})."
            )
        elif self.samples < MIN_SAMPLES:
            few = f"{samples} {'is' if self.samples == 1 else 'are'} too few"
            yield f"{few} to judge this estimate: take at least {MIN_SAMPLES}."
        if self.heavy:
            yield f"{self.samples} samples do not suffice for {self.heavy} of {images}: k̂ > {limit}."
        elif self.suffices:
            most = f"k̂ ≤ {self.pareto_k.max():.2f}, and {limit} is the limit for so many samples"
            yield f"{self.samples} samples suffice for {f'all {images}' if len(self) > 1 else 'the image'}: {most}."
        missing = None if self.suffices else self.missing
        if missing is not None and (missing.low >= 0.005 or math.isfinite(missing.high)):  # shown with two digits
            yield str(missing)
        elif self.samples > 1:
            steps, means = sizes(self.samples), self.curve.mean(-1)
            half = next(i for i, size in enumerate(steps) if 2 * size >= self.samples)
            rise = means[-1] - means[half]
            if rise.isfinite():
                how = "rose" if rise >= 0 else "fell"
                yield f"From {steps[half]} to {samples} the mean {how} by {abs(rise):.2f} nats."

    def __repr__(self) -> str:
        error = f" ± {self.standard_error:.2f}" if len(self) > 1 else ""
        samples = counted(self.samples, "sample")
        if self.exact:
            how = f"exact, {self.samples} codes"
        elif self.discrete:
            how = f"{samples}, {self.distinct.median():.0f} distinct in the median, error unknown"
        else:
            tail = "too few for k̂" if self.pareto_k.isnan().any() else f"k̂ > {self.pareto_limit:.2f} for {self.heavy}"
            how = f"{samples}, median ESS {self.ess.median():.1f}, {tail}"
        images = counted(len(self), "image")
        return f"Score(log p̂(x) = {self.log_likelihood.mean():.2f}{error} nats per image, {images}, {how})"
