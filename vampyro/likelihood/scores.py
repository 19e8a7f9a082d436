"""Estimates of log p(x) from importance weights, with their errors and diagnostics."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64
from pyro.ops.stats import fit_generalized_pareto
from torch import Tensor

from vampyro.programs.estimate import Estimate, or_none, standard_error, with_noun

TENSORS = ("log_likelihood", "elbo", "ess", "pareto_k", "curve", "distinct")  # image by image
MIN_SAMPLES = 25  # to fit a tail of five weights
MAX_PARETO_K = 0.7  # above it, no affordable number of samples suffices
RISES = 4  # doublings of the number of samples from which `extrapolate` continues
RESAMPLES = 1000  # of the images, for its interval
MAX_RATIO = 0.999  # of two successive increases; above it `extrapolate` gives no upper limit
MIN_IMAGES = 10  # for an interval over images


class Missing(NamedTuple):
    """Amount by which the mean log p̂ is probably too low, nats: an estimate and a 90 % interval over images."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isinf(self.estimate):
            return (
                f"The mean is probably at least {self.low:.2f} nats too low: it increases with the number of samples "
                "without slowing down."
            )
        high = "∞" if math.isinf(self.high) else f"{self.high:.2f}"
        return (
            f"Extrapolated to infinitely many samples, the mean is probably {self.estimate:.2f} nats too low "
            f"(90 % interval {self.low:.2f} to {high})."
        )


@dataclass(frozen=True)
class Score:
    """log p̂(x) of N images, nats per image, with diagnostics of the importance weights; float64 tensors.

    Attributes:
        log_likelihood: log p̂(x), (N,).
        elbo: the mean of the log weights, (N,).
        ess: the effective sample size, 1 … samples, (N,).
        pareto_k: the tail index k̂ of the weights (`pareto_k`), (N,).
        curve: log p̂(x) from 1, 2, 4, … of the samples, (len(sizes(samples)), N).
        distinct: number of different values of discrete latents among the samples, (N,); 0 without discrete latents.
        samples: S; if `exact`, the number of codes.
        exact: whether log p(x) is a sum over all codes of discrete latents, and `elbo` an exact expectation. Then there
            are no weights: `ess` and `pareto_k` are NaN, and `curve` is empty.
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
        """Summarise log weights, (samples, N); `distinct` is for discrete latents (`count_distinct`)."""
        if distinct is None:
            distinct = torch.zeros(log_w.shape[1:], dtype=torch.float64)
        # A few codes with equal weights do not show that the tail is light.
        k = pareto_k(log_w).masked_fill((distinct > 0) & (distinct < MIN_SAMPLES), math.nan)
        statistics = log_mean(log_w), log_w.mean(0), effective_sample_size(log_w), k, convergence(log_w), distinct
        log_likelihood, elbo, ess, k, curve, distinct = (tensor.cpu() for tensor in statistics)
        return cls(log_likelihood, elbo, ess, k, curve, distinct, len(log_w))

    @classmethod
    def from_sum(cls, log_likelihood: Tensor, elbo: Tensor, codes: int) -> "Score":
        """Return an exact score, a sum over `codes` codes."""
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
        """Whether latents are discrete and were sampled. Codes may then be missing without a trace in the weights."""
        return not self.exact and bool((self.distinct > 0).any())

    @property
    def monte_carlo_error(self) -> Float64[Tensor, " images"]:
        """The standard error of each log p̂(x), from the variation of its weights; reliable for k̂ < 0.5.

        Zero if the score is exact. NaN if discrete latents were sampled, because their weights do not show which codes
        are missing.
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
        """The limit of k̂ above which this number of samples does not suffice."""
        return pareto_limit(self.samples)

    @property
    def heavy(self) -> int:
        """The number of images whose k̂ is above that limit."""
        return int((self.pareto_k > self.pareto_limit).sum())

    @property
    def missing(self) -> Missing | None:
        """Amount by which the mean is probably too low (`extrapolate`); None if unknown."""
        return None if self.exact else extrapolate(self.curve, self.samples)

    def summary(self) -> dict:
        """Return the metrics for `results.json`; unknown ones are None."""
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
        """Whether k̂ is within its limit for every image; False if discrete latents were sampled."""
        return self.exact or bool(not self.discrete and (self.pareto_k <= self.pareto_limit).all())

    @property
    def verdict(self) -> str:
        """Sentences that say whether the samples suffice and how much is probably missing."""
        return " ".join(self._sentences())

    def _sentences(self):
        limit, samples = f"{self.pareto_limit:.2f}", with_noun(self.samples, "sample")
        images = with_noun(len(self), "image")
        if self.exact:
            yield f"This value is exact: a sum over all {self.samples} codes of the latents."
            return
        if self.discrete:
            count = round(self.distinct.median().item())
            yield (
                "The Monte Carlo error is unknown: the latents are discrete, and a code that was not sampled leaves no "
                f"trace in the weights (in the median, the {samples} of an image contain "
                f"{with_noun(count, 'distinct code')})."
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
                how = "increased" if rise >= 0 else "decreased"
                yield f"From {steps[half]} to {samples} the mean {how} by {abs(rise):.2f} nats."

    def __repr__(self) -> str:
        error = f" ± {self.standard_error:.2f}" if len(self) > 1 else ""
        samples = with_noun(self.samples, "sample")
        if self.exact:
            how = f"exact, {self.samples} codes"
        elif self.discrete:
            how = f"{samples}, {self.distinct.median():.0f} distinct in the median, error unknown"
        else:
            tail = "too few for k̂" if self.pareto_k.isnan().any() else f"k̂ > {self.pareto_limit:.2f} for {self.heavy}"
            how = f"{samples}, median ESS {self.ess.median():.1f}, {tail}"
        images = with_noun(len(self), "image")
        return f"Score(log p̂(x) = {self.log_likelihood.mean():.2f}{error} nats per image, {images}, {how})"


def sizes(samples: int) -> list[int]:
    """Return 1, 2, 4, … and `samples`.

    >>> sizes(10)
    [1, 2, 4, 8, 10]
    """
    return sorted({2**n for n in range(samples.bit_length())} | {samples})


def log_mean(log_w: Float[Tensor, " samples *images"]) -> Float[Tensor, "*images"]:
    """log 1/S Σ_s w_s: (S, …) → (…)."""
    return log_w.logsumexp(0) - math.log(len(log_w))


def convergence(log_w: Float[Tensor, "samples images"]) -> Float[Tensor, "sizes images"]:
    """The mean of log p̂(x) for each number of samples in `sizes(S)`: (S, N) → (len(sizes(S)), N).

    The samples contain S // s disjoint groups of s samples, and the estimate is averaged over them. Its expectation is
    the ELBO for s = 1 and increases with s to log p(x)   (Burda et al. 2016, arXiv:1509.00519, theorem 1).
    """
    count = len(log_w)
    return torch.stack(
        [log_mean(log_w[: count // s * s].unflatten(0, (-1, s)).movedim(1, 0)).mean(0) for s in sizes(count)]
    )


def extrapolate(curve: Float64[Tensor, "sizes images"], samples: int) -> Missing | None:
    """Estimate log p(x) - E[log p̂(x)], the mean over images, from the convergence in the number of samples.

    The mean increases by r(s) from s/2 to s samples. If the weights have a finite variance, each doubling halves r, and
    the difference to the limit equals the last r. With heavier tails r shrinks by a factor ρ in (½, 1), and the
    difference is ρ/(1 - ρ) times the last r. ρ is estimated from the last four values. The interval is a bootstrap over
    images. Its lower end assumes ρ = ½, the fastest possible convergence. In simulations with known tails (log-normal,
    Gaussian, Pareto) the interval contained the true value in 80 to 100 % of cases up to k = 0.7. For heavier tails the
    estimate is usually too small, so read it as "at least".

    Args:
        curve: the result of `convergence`.
        samples: the number of samples of its last row.

    Returns:
        None for fewer than 10 images or 16 samples, or if one of the last values is not finite because all weights of
        a group were 0.
    """
    doublings = samples.bit_length() - 1  # 2^doublings ≤ samples
    if curve.shape[1] < MIN_IMAGES or doublings < RISES:
        return None
    rises = (curve[1 : doublings + 1] - curve[:doublings])[-RISES:].T.double()  # (images, RISES)
    if not rises.isfinite().all():
        return None
    images, generator = len(rises), torch.Generator().manual_seed(0)
    resampled = [rises[torch.randint(images, (images,), generator=generator)].mean(0) for _ in range(RESAMPLES)]
    rises = torch.stack([rises.mean(0), *resampled])  # the first row is not resampled
    before, after = rises[:, :-1].sum(1), rises[:, 1:].sum(1)
    ratio = torch.where(before > 0, after / before, 0.5).clamp(0.5, 1)
    # The last rise of a geometric series with the same sum, continued from 2^doublings to all samples.
    last = rises.sum(1).clamp(min=0) / (ratio.unsqueeze(-1) ** -torch.arange(RISES)).sum(1)
    last = last * ratio ** math.log2(samples / 2**doublings)
    missing = torch.where(ratio < MAX_RATIO, last * ratio / (1 - ratio), math.inf)
    # An order statistic: torch's own quantile interpolates, which makes NaN of two infinities.
    high = missing[1:].sort().values[round(0.95 * (RESAMPLES - 1))]
    return Missing(missing[0].item(), last[1:].quantile(0.05).item(), high.item())


def effective_sample_size(log_w: Float[Tensor, "samples images"]) -> Float[Tensor, " images"]:
    """(Σ w)² / Σ w², 1 … S: (S, N) → (N,); 0 if all weights are 0."""
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp().nan_to_num(0.0)


def relative_error(ess: Tensor, samples: int) -> Tensor:
    """((S/ESS - 1)/(S - 1))^½: the relative standard error of a mean of S weights.

    To first order this is the standard error of the logarithm of the mean.

    >>> relative_error(torch.tensor([100.0, 50.0]), 100)
    tensor([0.0000, 0.1005])
    """
    return ((samples / ess - 1).clamp(min=0) / (samples - 1)).sqrt()


def pareto_k(log_w: Float[Tensor, "samples images"]) -> Float64[Tensor, " images"]:
    """Fit the shape k̂ of a generalised Pareto distribution to the largest min(S/5, 3√S) weights: (S, N) → (N,).

    Moments of the weights above 1/k̂ do not exist. From k̂ = 0.5 on this includes the variance, on which the error is
    based; `pareto_limit` is the largest k̂ for which S samples suffice   (Vehtari et al. 2024, arXiv:1507.02646).
    NaN for fewer than 25 samples, 0 if the largest weights are all equal, and ∞ if fewer than five of them are not
    negligible relative to the largest.

    >>> pareto_k(torch.zeros(100, 2))
    tensor([0., 0.], dtype=torch.float64)
    """
    samples, images = log_w.shape
    if samples < MIN_SAMPLES:
        return torch.full((images,), math.nan, dtype=torch.float64)
    tail = math.ceil(min(samples / 5, 3 * math.sqrt(samples)))
    largest = log_w.double().topk(tail + 1, 0).values.T.cpu()  # (N, tail + 1), the largest first
    weights = (largest - largest[:, :1]).exp()
    above = weights[:, :-1] - weights[:, -1:]
    return torch.tensor([_shape(x) for x in above], dtype=torch.float64)


def pareto_limit(samples: int) -> float:
    """Return the largest k̂ with which S samples suffice: min(1 - 1/log₁₀ S, 0.7); arviz calls it `good_k`.

    A mean of weights with shape k needs at least 10^(1/(1 - k)) samples: 100 for k = 0.5, 2,154 for k = 0.7, and for
    larger k soon more than are affordable   (Vehtari et al. 2024, arXiv:1507.02646). Fewer than 25 samples have no k̂;
    their limit is that of 25.

    >>> [round(pareto_limit(samples), 2) for samples in (30, 100, 1000, 5000)]
    [0.32, 0.5, 0.67, 0.7]
    """
    return min(1 - 1 / math.log10(max(samples, MIN_SAMPLES)), MAX_PARETO_K)


def _shape(x):
    """Fit k to a tail of weights, scaled to a maximum of 1, minus the smallest of them."""
    if x.max() < 1e-12:
        return 0.0
    x = x[x > 1e-30]  # the fit cannot tell smaller ones from 0
    try:
        shape = fit_generalized_pareto(x)[0] if len(x) > 4 else math.inf
    except ZeroDivisionError:
        shape = math.inf
    return math.inf if math.isnan(shape) else shape


def count_distinct(values: list[Tensor]) -> Float64[Tensor, " images"]:
    """Count the different samples of each image: a list of tensors (S, N, …), one for each latent site → (N,).

    >>> count_distinct([torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 1.0]])])
    tensor([1., 2.], dtype=torch.float64)
    """
    flat = torch.cat([value.reshape(*value.shape[:2], -1).double() for value in values], -1)
    # One number for each sample, which two different samples share with probability 0.
    generator = torch.Generator().manual_seed(0)
    key = (flat @ torch.rand(flat.shape[-1], generator=generator, dtype=torch.float64).to(flat.device)).sort(0).values
    return 1 + (key.diff(dim=0) != 0).sum(0).double().cpu()
