"""What importance weights say of an image, and of their own estimate."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from pyro.ops.stats import fit_generalized_pareto
from torch import Tensor

from inference.estimate import Estimate, or_none, standard_error

FEWEST = 25  # samples from which a tail of five can be fitted
HOPELESS = 0.7  # k̂ above which no number of samples helps


def sizes(samples):
    """1, 2, 4, … and `samples`.

    >>> sizes(10)
    [1, 2, 4, 8, 10]
    """
    return sorted({2**n for n in range(samples.bit_length())} | {samples})


def log_mean(log_w: Float[Tensor, " samples *images"]) -> Float[Tensor, "*images"]:
    """log 1/S Σ_s w_s: (S, …) → (…)."""
    return log_w.logsumexp(0) - math.log(len(log_w))


def convergence(log_w: Float[Tensor, "samples images"]) -> Float[Tensor, "sizes images"]:
    """The mean of log p̂(x) had it been made of fewer samples: (S, N) → (len(sizes(S)), N).

    Of s samples there are S // s disjoint groups, over which the estimate is averaged: its expectation rises with s to
    log p(x)   (Burda et al. 2016, arXiv:1509.00519, theorem 1), and at s = 1 is the ELBO.
    """
    count = len(log_w)
    return torch.stack(
        [log_mean(log_w[: count // s * s].unflatten(0, (-1, s)).movedim(1, 0)).mean(0) for s in sizes(count)]
    )


def effective_sample_size(log_w: Float[Tensor, "samples images"]) -> Float[Tensor, " images"]:
    """(Σ w)² / Σ w², 1 … S: (S, N) → (N,)."""
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()


def relative_error(ess, samples):
    """((S/ESS - 1)/(S - 1))^½: of a mean of S weights by their own spread; to first order the error of its logarithm.

    >>> relative_error(torch.tensor([100.0, 50.0]), 100)
    tensor([0.0000, 0.1005])
    """
    return ((samples / ess - 1).clamp(min=0) / (samples - 1)).sqrt()


def pareto_k(log_w: Float[Tensor, "samples images"]) -> Float64[Tensor, " images"]:
    """The shape k̂ of a generalised Pareto distribution, fitted to the largest min(S/5, 3√S) weights: (S, N) → (N,).

    Moments of the weights above 1/k̂ do not exist: from k̂ = 0.5 on not the variance, on which the error is built; how
    large k̂ may be for S samples to suffice, `pareto_limit` says   (Vehtari et al. 2024, arXiv:1507.02646). nan for
    fewer than 25 samples; 0 where the largest weights are all the same, ∞ where fewer than five of them are anything at
    all beside the largest.

    >>> pareto_k(torch.zeros(100, 2))
    tensor([0., 0.], dtype=torch.float64)
    """
    samples, images = log_w.shape
    if samples < FEWEST:
        return torch.full((images,), math.nan, dtype=torch.float64)
    tail = math.ceil(min(samples / 5, 3 * math.sqrt(samples)))
    largest = log_w.double().topk(tail + 1, 0).values.T.cpu()  # (N, tail + 1), the largest first
    weights = (largest - largest[:, :1]).exp()
    above = weights[:, :-1] - weights[:, -1:]
    return torch.tensor([_shape(x) for x in above], dtype=torch.float64)


def pareto_limit(samples):
    """The largest k̂ with which S samples suffice: min(1 - 1/log₁₀ S, 0.7).

    A mean of heavier weights needs at least 10^(1/(1 - k)) samples, 100 at k = 0.5 and 2,154 at k = 0.7, above which
    they are soon more than anyone has   (Vehtari et al. 2024, arXiv:1507.02646). That of 25 samples for fewer, which
    have no k̂.

    >>> [round(pareto_limit(samples), 2) for samples in (30, 100, 1000, 5000)]
    [0.32, 0.5, 0.67, 0.7]
    """
    return min(1 - 1 / math.log10(max(samples, FEWEST)), HOPELESS)


def _shape(x):
    """Of a tail whose largest weight is 1, less the smallest."""
    if x.max() < 1e-12:
        return 0.0
    x = x[x > 1e-30]  # fewer digits than that the fit cannot tell from none
    try:
        shape = fit_generalized_pareto(x)[0] if len(x) > 4 else math.inf
    except ZeroDivisionError:
        shape = math.inf
    return math.inf if math.isnan(shape) else shape


@dataclass(frozen=True)
class Score:
    """What importance sampling says of N images, nats per image; float64 tensors.

    `log_likelihood` log p̂(x), `elbo` the mean of the same log weights, `ess` the effective sample size, 1 … samples,
    `pareto_k` the weights' tail index k̂ (`pareto_k`): (N,). `curve` log p̂(x) from 1, 2, 4, … of the samples:
    (len(sizes(samples)), N).
    """

    log_likelihood: Float64[Tensor, " images"]
    elbo: Float64[Tensor, " images"]
    ess: Float64[Tensor, " images"]
    pareto_k: Float64[Tensor, " images"]
    curve: Float64[Tensor, "sizes images"]
    samples: int

    @classmethod
    def of(cls, log_w: Float64[Tensor, "samples images"]):
        """From the log weights, (samples, N)."""
        return cls(
            log_mean(log_w).cpu(),
            log_w.mean(0).cpu(),
            effective_sample_size(log_w).cpu(),
            pareto_k(log_w),
            convergence(log_w).cpu(),
            len(log_w),
        )

    @classmethod
    def cat(cls, scores):
        """Of several lists of images one after the other."""
        columns = zip(*(score.tensors() for score in scores))
        return cls(*(torch.cat(column, -1) for column in columns), scores[0].samples)

    def __getitem__(self, index):
        """Those images' alone."""
        return Score(*(tensor[..., index] for tensor in self.tensors()), self.samples)

    def __len__(self):
        return len(self.log_likelihood)

    def tensors(self):
        return self.log_likelihood, self.elbo, self.ess, self.pareto_k, self.curve

    @property
    def monte_carlo_error(self):
        """The standard error of each log p̂(x) by the spread of its own weights, (N,): honest where k̂ < 0.5."""
        return relative_error(self.ess, self.samples)

    @property
    def standard_error(self):
        """Of the mean log p̂(x), over images; nan for a single one."""
        return standard_error(self.log_likelihood)

    @property
    def pareto_limit(self):
        """The k̂ above which so many samples do not suffice."""
        return pareto_limit(self.samples)

    @property
    def heavy(self):
        """Of how many images the weights have a heavier tail than that."""
        return (self.pareto_k > self.pareto_limit).sum().item()

    def summary(self):
        """The figures that `results.json` keeps; None for what one image or one sample does not say."""
        error = Estimate(self.log_likelihood, self.monte_carlo_error).error.item()
        known = not self.pareto_k.isnan().any()
        return {
            "log_likelihood": self.log_likelihood.mean().item(),
            "standard_error": or_none(self.standard_error),
            "monte_carlo_error": or_none(error),
            "elbo": self.elbo.mean().item(),
            "samples": self.samples,
            "images": len(self),
            "ess_median": self.ess.median().item(),
            "pareto_k_median": self.pareto_k.median().item() if known and self.pareto_k.median().isfinite() else None,
            "pareto_k_limit": self.pareto_limit if known else None,
            "pareto_k_heavy": self.heavy if known else None,  # images above the limit
            "convergence": {str(s): mean.item() for s, mean in zip(sizes(self.samples), self.curve.mean(-1))},
        }

    @property
    def verdict(self):
        """Whether so many samples suffice, in words."""
        if self.pareto_k.isnan().any():
            return f"{self.samples} samples are too few to say whether they suffice: take at least {FEWEST}."
        steps, means = sizes(self.samples), self.curve.mean(-1)
        half = next(i for i, size in enumerate(steps) if 2 * size >= self.samples)
        rise = f"From {steps[half]} to {self.samples} samples the mean rose by {means[-1] - means[half]:.2f} nats."
        limit = f"{self.pareto_limit:.2f}"
        if self.heavy:
            return (
                f"{self.samples} samples do not suffice for {self.heavy} of {len(self)} images: the tail of their "
                f"weights is so heavy (k̂ > {limit}, the limit for so many samples) that log p̂ is too low by more than "
                f"its error says. {rise}"
            )
        most = f"k̂ ≤ {self.pareto_k.max():.2f}, and {limit} is the limit for so many samples"
        return f"{self.samples} samples suffice for all {len(self)} images: {most}. {rise}"

    def __repr__(self):
        tail = "too few for k̂" if self.pareto_k.isnan().any() else f"k̂ > {self.pareto_limit:.2f} for {self.heavy}"
        return (
            f"Score(log p̂(x) = {self.log_likelihood.mean():.2f} ± {self.standard_error:.2f} nats per image, "
            f"{len(self)} images, {self.samples} samples, median ESS {self.ess.median():.1f}, {tail})"
        )
