"""Statistics of the weights that `importance.py` computes: effective sample size, tail index, convergence, bias."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from pyro.ops.stats import fit_generalized_pareto
from torch import Tensor

MIN_SAMPLES = 25  # to fit a tail of five weights
MAX_PARETO_K = 0.7  # above it, no affordable number of samples suffices
RISES = 4  # doublings of the number of samples from which `extrapolate` continues
RESAMPLES = 1000  # of the images, for its interval
MAX_RATIO = 0.999  # of two rises; from it on `extrapolate` gives no upper limit
MIN_IMAGES = 10  # for an interval over images


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
    """The mean of log p̂(x) had it been made of fewer samples: (S, N) → (len(sizes(S)), N).

    Of s samples there are S // s disjoint groups, over which the estimate is averaged: its expectation rises with s to
    log p(x)   (Burda et al. 2016, arXiv:1509.00519, theorem 1), and at s = 1 is the ELBO.
    """
    count = len(log_w)
    return torch.stack(
        [log_mean(log_w[: count // s * s].unflatten(0, (-1, s)).movedim(1, 0)).mean(0) for s in sizes(count)]
    )


class Missing(NamedTuple):
    """Amount by which the mean log p̂ is probably too low, nats: an estimate and a 90 % interval over images."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isinf(self.estimate):
            return (
                f"The mean is probably at least {self.low:.2f} nats too low: its rise with the number of samples is "
                "not slowing down."
            )
        high = "∞" if math.isinf(self.high) else f"{self.high:.2f}"
        return (
            f"Extrapolated from its rise with the number of samples, the mean is probably {self.estimate:.2f} nats too "
            f"low (90 % interval {self.low:.2f} to {high})."
        )


def extrapolate(curve: Float64[Tensor, "sizes images"], samples: int) -> Missing | None:
    """Estimate log p(x) - E[log p̂(x)], the mean over images, from the convergence in the number of samples.

    Between s/2 and s samples the mean rises by r(s). Where the weights have a variance, the rises are halved by every
    doubling, and what is missing equals the last rise. With heavier tails they shrink by a factor ρ in (½, 1), and
    ρ/(1 - ρ) times the last rise is missing. The last four rises give ρ. The interval resamples the images; its lower
    end assumes ρ = ½, so that it holds whatever comes after the largest s. Sampled from tails of known index
    (log-normal, Gaussian, Pareto), it contained the true value in 80 to 100 % of cases up to k = 0.7; for heavier tails
    the estimate is too small more often than not, so read it as "at least".

    Args:
        curve: as `convergence` returns it.
        samples: the number of samples of its last row.

    Returns:
        None for fewer than 10 images or 16 samples, or where one of the last rises is not finite: of all samples or
        a group of them, every weight was 0.
    """
    doublings = samples.bit_length() - 1  # 2^doublings ≤ samples
    if curve.shape[1] < MIN_IMAGES or doublings < RISES:
        return None
    rises = (curve[1 : doublings + 1] - curve[:doublings])[-RISES:].T.double()  # (images, RISES)
    if not rises.isfinite().all():
        return None
    images, generator = len(rises), torch.Generator().manual_seed(0)
    resampled = [rises[torch.randint(images, (images,), generator=generator)].mean(0) for _ in range(RESAMPLES)]
    rises = torch.stack([rises.mean(0), *resampled])  # the first row is the estimate's
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
    """(Σ w)² / Σ w², 1 … S: (S, N) → (N,); 0 where all weights are 0."""
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp().nan_to_num(0.0)


def relative_error(ess: Tensor, samples: int) -> Tensor:
    """((S/ESS - 1)/(S - 1))^½: the relative standard error of a mean of S weights.

    To first order it is the standard error of the mean's logarithm.

    >>> relative_error(torch.tensor([100.0, 50.0]), 100)
    tensor([0.0000, 0.1005])
    """
    return ((samples / ess - 1).clamp(min=0) / (samples - 1)).sqrt()


def pareto_k(log_w: Float[Tensor, "samples images"]) -> Float64[Tensor, " images"]:
    """Fit the shape k̂ of a generalised Pareto distribution to the largest min(S/5, 3√S) weights: (S, N) → (N,).

    Moments of the weights above 1/k̂ do not exist. From k̂ = 0.5 on this includes the variance, on which the error is
    based; `pareto_limit` is the largest k̂ for which S samples suffice   (Vehtari et al. 2024, arXiv:1507.02646).
    NaN for fewer than 25 samples; 0 where the largest weights are all the same, ∞ where fewer than five of them are
    positive next to the largest.

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

    A mean of heavier weights needs at least 10^(1/(1 - k)) samples: 100 at k = 0.5, 2,154 at k = 0.7, and above it
    soon more than are affordable   (Vehtari et al. 2024, arXiv:1507.02646). For fewer than 25 samples, which have no
    k̂, the limit is that of 25.

    >>> [round(pareto_limit(samples), 2) for samples in (30, 100, 1000, 5000)]
    [0.32, 0.5, 0.67, 0.7]
    """
    return min(1 - 1 / math.log10(max(samples, MIN_SAMPLES)), MAX_PARETO_K)


def _shape(x):
    """Fit k to a tail of weights, the largest 1, from which the smallest is subtracted."""
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
    # One number for each sample: two different samples share it with probability 0.
    generator = torch.Generator().manual_seed(0)
    key = (flat @ torch.rand(flat.shape[-1], generator=generator, dtype=torch.float64).to(flat.device)).sort(0).values
    return 1 + (key.diff(dim=0) != 0).sum(0).double().cpu()
