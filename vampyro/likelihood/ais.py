"""Annealed importance sampling of log p(x), which needs no guide, and bidirectional Monte Carlo, which bounds it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, pairwise

import pyro
import torch
from jaxtyping import Float, Float64
from pyro import poutine
from torch import Tensor, nn

from vampyro.likelihood.discrete_moves import DiscreteTarget
from vampyro.likelihood.finite import finite_latents
from vampyro.likelihood.hmc import BaseTarget, Target
from vampyro.likelihood.scores import effective_sample_size, log_mean, relative_error
from vampyro.memory import rows_that_fit
from vampyro.programs.checks import check_counts, check_images
from vampyro.programs.estimate import Estimate, or_none, standard_error
from vampyro.programs.layout import Images, Layout, arrange
from vampyro.programs.modes import constant_parts, evaluation_mode, without_gradients
from vampyro.programs.randomness import same_noise, seeded
from vampyro.programs.traces import sample_sites

ACCEPTANCE = 0.65  # the acceptance rate at which Hamiltonian Monte Carlo is most efficient
GAIN = 0.2  # change of a log step size per transition, times the difference from that rate
JITTER = 0.2  # relative, of a step size: without it a trajectory can return to its start every time
STEEPNESS = 4.0  # the schedule is a sigmoid on [-4, 4]

Progress = Callable[[list], Iterable]


@dataclass(frozen=True)
class AnnealedScore:
    """Result of annealed importance sampling for N images, nats per image.

    Attributes:
        log_likelihood: log p̂(x), (N,).
        error: its Monte Carlo error, from the variation of the chains' weights, (N,). A value near 1 means only that
            one chain has all the weight. NaN for a single chain.
        ess: effective sample size, 1 … chains, (N,).
        acceptance: acceptance rate over the last tenth of the transitions, (N,).
    """

    log_likelihood: Float64[Tensor, " images"]
    error: Float64[Tensor, " images"]
    ess: Float[Tensor, " images"]
    acceptance: Float[Tensor, " images"]
    chains: int
    temperatures: int

    @property
    def standard_error(self) -> float:
        """Standard error of the mean log p̂(x) over images; NaN for a single one."""
        return standard_error(self.log_likelihood)

    @property
    def monte_carlo_error(self) -> float:
        """Standard error of the mean log p̂(x) of these images over chains."""
        return Estimate(self.log_likelihood, self.error).error.item()

    def summary(self) -> dict:
        """Return the metrics for JSON; an error of a single image or chain is None."""
        return {
            "log_likelihood": self.log_likelihood.mean().item(),
            "standard_error": or_none(self.standard_error),
            "monte_carlo_error": or_none(self.monte_carlo_error),
            "chains": self.chains,
            "temperatures": self.temperatures,
            "images": len(self.log_likelihood),
            "ess_median": self.ess.median().item(),
            "acceptance": or_none(self.acceptance.mean().item()),
        }

    def __repr__(self) -> str:
        return (
            f"AnnealedScore(log p̂(x) = {self.log_likelihood.mean():.2f} ± {self.standard_error:.2f} nats per image "
            f"(± {self.monte_carlo_error:.2f} over chains), {len(self.log_likelihood)} images, {self.chains} chains, "
            f"{self.temperatures} temperatures, median ESS {self.ess.median():.1f}, "
            f"acceptance {self.acceptance.mean():.2f})"
        )


@dataclass(frozen=True)
class Bounds:
    """log p(x) of N images sampled from the model, between two stochastic bounds, nats per image.

    Attributes:
        lower, upper: in expectation lower ≤ log p(x) ≤ upper, (N,).
        lower_error, upper_error: their Monte Carlo errors over chains, (N,).
        images: the images, (N, …). Any other estimate of their log p(x) should be between the bounds.
    """

    lower: Float64[Tensor, " images"]
    upper: Float64[Tensor, " images"]
    lower_error: Float64[Tensor, " images"]
    upper_error: Float64[Tensor, " images"]
    images: Tensor
    chains: int
    temperatures: int

    @property
    def gap(self) -> Float64[Tensor, " images"]:
        """upper - lower, (N,): in expectation an upper bound on the error of either."""
        return self.upper - self.lower

    @property
    def standard_error(self) -> float:
        """Standard error of the mean gap over images; NaN for a single one."""
        return standard_error(self.gap)

    def summary(self) -> dict:
        """Return the metrics for JSON; the standard error for a single image is None."""
        return {
            "lower": self.lower.mean().item(),
            "upper": self.upper.mean().item(),
            "gap": self.gap.mean().item(),
            "gap_standard_error": or_none(self.standard_error),
            "gap_max": self.gap.max().item(),
            "chains": self.chains,
            "temperatures": self.temperatures,
            "images": len(self.gap),
        }

    def __repr__(self) -> str:
        return (
            f"Bounds({self.lower.mean():.2f} ≤ log p(x) ≤ {self.upper.mean():.2f} nats per image, gap "
            f"{self.gap.mean():.3f} ± {self.standard_error:.3f}, {len(self.gap)} sampled images, "
            f"{self.chains} chains, {self.temperatures} temperatures)"
        )


def ais(
    model: Callable,
    images: Images,
    *,
    chains: int = 16,
    temperatures: int = 1000,
    leapfrog: int = 10,
    step_size: float = 0.1,
    scouts: int = 4,
    seed: int = 0,
    rows: int | None = None,
    progress: Progress = iter,
) -> AnnealedScore:
    """log p̂(x) = log 1/C Σ_c w_c, w = Π_t p(x | z_{t-1})^(β_t - β_{t-1})   (Neal 2001, arXiv:physics/9803008).

    A chain starts at z_0 ~ p(z). A Hamiltonian transition that leaves p(z) p(x | z)^β_t invariant moves z_{t-1} to z_t,
    with 0 = β_0 < … < β_T = 1 (Wu et al. 2017, arXiv:1611.04273). E[w] = p(x) for every T, so log p̂(x) is a lower bound
    in expectation, which increases with T and C. No guide is used, so this is an independent check of `score`.

    If all latents have finitely many values (bits, codes, categories), the chains make Metropolis moves instead
    (`DiscreteTarget`), `leapfrog` of them at each temperature.

    The step size is adapted for each image to an acceptance rate of 0.65. Additional chains, the scouts, measure this
    rate and get no weight: with a step size adapted to its own past, a chain would not have E[w] = p(x).

    Args:
        model: a Pyro program over a batch of images; an `nn.Module` is in evaluation mode during the call.
        images: (N, channels, height, width), as the model observes them: samples of x, not means.
        chains: C.
        temperatures: T. The cost is T·leapfrog gradients of log p(x, z) for (C + scouts)·N rows.
        leapfrog: steps of a trajectory, or moves of discrete latents.
        step_size: the step size of the first transition.
        scouts: the number of scouts; without any, the step size is constant.
        seed: the result depends on it, on the arguments above, on `rows` and on the kind of device.
        rows: chains × images to compute at a time, at least one image. By default as many as half of the free memory
            holds and the device computes efficiently.
        progress: wraps the list of temperatures for each block of images, for example `tqdm`.

    Raises:
        ValueError: if there are no images, a count is too small, or the latents cannot be annealed (`Target`).

    >>> from vampyro.models import VAE; from vampyro.priors import StandardNormal; from vampyro import nets
    >>> decoder = torch.nn.Sequential(nets.MLP((2,), (8,)), nets.BernoulliHead(8, (1, 4, 4)))
    >>> model = VAE(StandardNormal(2), decoder)
    >>> ais(model, torch.zeros(7, 1, 4, 4), chains=8, temperatures=5).log_likelihood.shape
    torch.Size([7])
    """
    check_images(images, model)
    check_counts(chains=chains, temperatures=temperatures, leapfrog=leapfrog)
    betas, results = schedule(temperatures), []
    with prepare(model, images.device, seed):
        size, layout = images_at_once(model, images, chains + scouts, rows)
        for x in images.split(size):
            target = target_of(model, x, layout)
            log_w, acceptance, _ = from_prior(target, betas, chains, step_size, leapfrog, scouts, progress)
            results.append(torch.stack([*with_error(log_w), acceptance]).cpu())
    log_likelihood, error, ess, acceptance = torch.cat(results, -1)
    return AnnealedScore(log_likelihood, error, ess, acceptance, chains, temperatures)


def bdmc(
    model: Callable,
    *,
    images: int = 100,
    chains: int = 16,
    temperatures: int = 1000,
    leapfrog: int = 10,
    step_size: float = 0.1,
    scouts: int = 4,
    seed: int = 0,
    rows: int | None = None,
    progress: Progress = iter,
) -> Bounds:
    """log 1/C Σ_c w_c ≤ log p(x) ≤ -log 1/C Σ_c v_c, each in expectation   (Grosse et al. 2015, arXiv:1511.02543).

    The model samples (z*, x) ~ p(z) p(x | z), so z* is an exact sample of the posterior p(z | x). Chains from the prior
    to the posterior are those of `ais`, with E[w] = p(x). Chains from z* back to the prior use the same step sizes, and
    have v = Π_t p(x | z_t)^(β_{t-1} - β_t), E[v] = 1/p(x). By Jensen's inequality the logarithms are bounds. The gap on
    sampled images indicates how accurate `ais` is on real images with the same arguments.

    All backward chains of an image start at the same z*. Each v is unbiased, but `upper_error` does not include the
    variation between different z*.

    Args:
        model: a Pyro program; `model(batch=N)` samples N images and returns them, `model(x)` observes them.
        images: N.
        chains, temperatures, leapfrog, step_size, scouts, seed, rows, progress: as in `ais`, for each direction.

    Raises:
        ValueError: as `ais`, or if `model(batch=N)` does not return N images.

    >>> from vampyro.models import VAE; from vampyro.priors import StandardNormal; from vampyro import nets
    >>> decoder = torch.nn.Sequential(nets.MLP((2,), (8,)), nets.BernoulliHead(8, (1, 4, 4)))
    >>> bounds = bdmc(VAE(StandardNormal(2), decoder), images=7, chains=8, temperatures=5)
    >>> bounds.gap.shape, bounds.images.shape
    (torch.Size([7]), torch.Size([7, 1, 4, 4]))
    """
    check_counts(images=images, chains=chains, temperatures=temperatures, leapfrog=leapfrog)
    betas, results = schedule(temperatures), []
    tensors = chain(model.parameters(), model.buffers()) if isinstance(model, nn.Module) else iter(())
    device = next(tensors, torch.empty(0)).device
    with prepare(model, device, seed):
        try:
            simulation = poutine.trace(model).get_trace(batch=images)
        except TypeError as error:
            raise TypeError(
                f"model(batch={images}) failed ({str(error).splitlines()[0]}): bdmc needs a model that samples and "
                "returns images when it is called without x: model(x=None, *, batch=1), with obs=None where x is None"
            ) from error
        simulated, drawn = simulation.nodes["_RETURN"]["value"], sample_sites(simulation)
        if not isinstance(simulated, torch.Tensor) or len(simulated) != images:
            raise ValueError(f"model(batch={images}) must return {images} images")
        check_images(simulated, model)
        size, layout = images_at_once(model, simulated, chains + scouts, rows)
        for part in (slice(start, start + size) for start in range(0, images, size)):
            target = target_of(model, simulated[part], layout)
            log_w, _, steps = from_prior(target, betas, chains, step_size, leapfrog, scouts, progress)
            latents = {name: drawn[name] for name in target.shapes}
            values = {n: layout.select(site["value"], site["fn"].event_dim, part) for n, site in latents.items()}
            exact = target.draw(chains, values)
            log_v, _ = anneal(target, exact, betas[::-1], steps.flip(0), leapfrog, progress=progress)
            (lower, lower_error, _), (inverse, upper_error, _) = with_error(log_w), with_error(log_v)
            results.append(torch.stack([lower, -inverse, lower_error, upper_error]).cpu())
    lower, upper, lower_error, upper_error = torch.cat(results, -1)
    return Bounds(lower, upper, lower_error, upper_error, simulated, chains, temperatures)


def from_prior(
    target: BaseTarget,
    betas: Sequence[float],
    chains: int,
    step_size: float,
    leapfrog: int,
    scouts: int = 0,
    progress: Progress = iter,
) -> tuple[Tensor, Tensor, Tensor]:
    """Anneal chains from samples of p(z); return the results of `anneal` and the adapted step sizes, (T - 1, batch)."""
    scouts = scouts if target.adapts else 0
    steps = torch.full((len(betas) - 2, len(target.x)), step_size, dtype=torch.float64, device=target.x.device)
    z = target.draw(scouts + chains)
    return *anneal(target, z, betas, steps, leapfrog, scouts=scouts, progress=progress), steps


def anneal(
    target: BaseTarget,
    z: Tensor,
    betas: Sequence[float],
    steps: Tensor,
    leapfrog: int,
    scouts: int = 0,
    progress: Progress = iter,
) -> tuple[Tensor, Tensor]:
    """Move chains from z through p(z) p(x | z)^β, from the first β to the last.

    If z is a sample of the first density, E[w] is the ratio of the last density's integral to the first one's: p(x) for
    β from 0 to 1 and z ~ p(z), 1/p(x) for β from 1 to 0 and z ~ p(z | x).

    Args:
        target: a `Target`.
        z: (scouts + chains, batch, dimension).
        betas: T + 1 numbers.
        steps: step sizes of the transitions, (T - 1, batch); with scouts, the adapted ones are written into it.

    Returns:
        log w, (chains, batch) float64, and the acceptance rate of the last tenth of the transitions, (batch,).
    """
    point = target(z)
    log_w, rates = torch.zeros_like(point.likelihood), torch.zeros_like(steps)
    for t, (before, beta) in enumerate(progress(list(pairwise(betas)))):
        log_w += (beta - before) * point.likelihood
        if t == len(steps):  # another transition would not change the weights
            break
        size = steps[t] * (1 + JITTER * (2 * torch.rand_like(log_w) - 1))
        point, acceptance = target.transition(point, beta, size, leapfrog)
        rates[t] = acceptance[scouts:].mean(0)
        if scouts and t + 1 < len(steps):
            steps[t + 1] = steps[t] * (GAIN * (acceptance[:scouts].mean(0) - ACCEPTANCE)).exp()
    return log_w[scouts:], rates[-max(1, len(rates) // 10) :].mean(0)


def schedule(temperatures: int) -> list[float]:
    """β_0 = 0 < … < β_T = 1: a sigmoid, slow at both ends.

    >>> [round(beta, 3) for beta in schedule(4)]
    [0.0, 0.105, 0.5, 0.895, 1.0]
    """
    x = torch.linspace(-STEEPNESS, STEEPNESS, temperatures + 1, dtype=torch.float64).sigmoid()
    return ((x - x[0]) / (x[-1] - x[0])).tolist()


def with_error(log_w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(log 1/C Σ w, its Monte Carlo error, effective sample size) of (C, batch) log weights, each (batch,)."""
    ess = effective_sample_size(log_w)
    return log_mean(log_w), relative_error(ess, len(log_w)), ess


def target_of(model: Callable, x: Tensor, layout: Layout) -> Target | DiscreteTarget:
    """Return the target for the chains: over ℝⁿ, or over codes if all latents have finitely many values."""
    supports = finite_latents(model, x, layout)
    return Target(model, x, layout) if supports is None else DiscreteTarget(model, x, supports, layout)


def images_at_once(model: Callable, images: Tensor, chains: int, rows: int | None) -> tuple[int, Layout]:
    """Return the number of images whose chains are `rows` rows in total, and the model's layout.

    All images if the model does not run on some of them.
    """
    (x, *_), layout = arrange(images, 2, model)  # two images, to detect a latent that they share
    target = target_of(model, x, layout)  # raises errors before memory is measured
    if len(x) > 2:
        return len(images), layout
    if rows is None:
        with same_noise(images.device):
            rows = rows_that_fit(lambda n: target(target.draw(n)), images.device, len(x))
    return max(1, rows // chains), layout


@contextmanager
def prepare(model: Callable, device: torch.device, seed: int) -> Iterator[None]:
    """Keep `model` constant inside the context: only z has a gradient."""
    with (
        evaluation_mode(model),
        constant_parts(model),
        without_gradients(model),
        seeded(seed, device=device),
        pyro.validation_enabled(False),
        torch.no_grad(),
    ):
        yield
