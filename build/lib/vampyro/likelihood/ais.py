"""The marginal likelihood by annealed importance sampling: by way of the prior, without a guide."""

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import pyro
import torch
from jaxtyping import Float
from torch import Tensor

from vampyro.likelihood.discrete_moves import DiscreteTarget
from vampyro.likelihood.finite import finite_latents
from vampyro.likelihood.hmc import Target
from vampyro.likelihood.weights import effective_sample_size, log_mean, relative_error
from vampyro.memory import rows_that_fit
from vampyro.programs.checks import check_images
from vampyro.programs.estimate import Estimate, or_none, standard_error
from vampyro.programs.layout import Layout, arrange
from vampyro.programs.modes import constant_parts, evaluation_mode, without_gradients
from vampyro.programs.randomness import same_noise, seeded

ACCEPTANCE = 0.65  # of the proposals, where Hamiltonian Monte Carlo goes farthest for its price


GAIN = 0.2  # how far the logarithm of a step size follows the acceptance rate, at each transition


JITTER = 0.2  # of a step size, either way, so that no trajectory comes round to its start again and again


STEEPNESS = 4.0  # the schedule is a sigmoid's piece from -4 to 4


@dataclass(frozen=True)
class AnnealedScore:
    """What annealed importance sampling says of N images, nats per image.

    `log_likelihood` log p̂(x); `error` its Monte Carlo error, from the spread of the chains' weights (near 1 it says
    no more than that one chain has all the weight; nan for a single chain); `ess` the effective sample size,
    1 … chains; `acceptance` the rate over the last tenth of the transitions: float64 tensors (N,).
    """

    log_likelihood: torch.Tensor
    error: torch.Tensor
    ess: torch.Tensor
    acceptance: torch.Tensor
    chains: int
    temperatures: int

    @property
    def standard_error(self):
        """Of the mean log p̂(x), over images; nan for a single one."""
        return standard_error(self.log_likelihood)

    @property
    def monte_carlo_error(self):
        """Of the mean log p̂(x) of these very images, over chains."""
        return Estimate(self.log_likelihood, self.error).error.item()

    def summary(self):
        """The figures, as JSON may hold them: None for an error of a single image or chain."""
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

    def __repr__(self):
        return (
            f"AnnealedScore(log p̂(x) = {self.log_likelihood.mean():.2f} ± {self.standard_error:.2f} nats per image "
            f"(± {self.monte_carlo_error:.2f} over chains), {len(self.log_likelihood)} images, {self.chains} chains, "
            f"{self.temperatures} temperatures, median ESS {self.ess.median():.1f}, "
            f"acceptance {self.acceptance.mean():.2f})"
        )


def ais(
    model,
    images: Float[Tensor, " images *event"],
    *,
    chains=16,
    temperatures=1000,
    leapfrog=10,
    step_size=0.1,
    scouts=4,
    seed=0,
    rows=None,
    progress=iter,
):
    """log p̂(x) = log 1/C Σ_c w_c, w = Π_t p(x | z_{t-1})^(β_t - β_{t-1})   (Neal 2001, arXiv:physics/9803008).

    A chain starts at z_0 ~ p(z), and z_t comes from z_{t-1} by a Hamiltonian transition that leaves p(z) p(x | z)^β_t
    as it is, 0 = β_0 < … < β_T = 1 (Wu et al. 2017, arXiv:1611.04273). E[w] = p(x) whatever T is, so that log p̂(x) is
    a lower bound in expectation, which rises with T and with C. No guide has a part in it: a check of `score` from
    outside.

    Latents that all have finitely many values (bits, codes, categories) move by `DiscreteTarget`'s Metropolis moves in
    place of Hamiltonian transitions, `leapfrog` of them at each temperature.

    A few more chains, the scouts, are not weighed: the step size, each image's own, follows their acceptance
    rate to 0.65. With step sizes that follow its own past a chain's E[w] would not be p(x).

    Args:
        model: a Pyro program over a batch of images; an `nn.Module` is put in evaluation mode meanwhile.
        images: (N, channels, height, width), as the model observes them: draws of x, not their means.
        chains: C.
        temperatures: T; the price is T·leapfrog gradients of log p(x, z), (C + scouts)·N rows each.
        leapfrog: steps of a trajectory, or moves of discrete latents.
        step_size: the first transition's.
        scouts: how many; without any the step size stays what it is.
        seed: of the chains; the result depends on it, on the arguments above, on `rows` and on the kind of device.
        rows: chains × images computed at a time, of one image at least; unless given, as many as half of the free
            memory holds, but no more than the device is fast with.
        progress: wraps the loop over temperatures, of each block of images anew, `tqdm` say; it gets a list.

    Raises:
        ValueError: where there are no images, a number is too small, or the model has no latents for it (`Target`).

    >>> from vampyro.models import VAE; from vampyro.priors import StandardNormal; from vampyro import nets
    >>> decoder = torch.nn.Sequential(nets.MLP((2,), (8,)), nets.BernoulliHead(8, (1, 4, 4)))
    >>> model = VAE(StandardNormal(2), decoder)
    >>> ais(model, torch.zeros(7, 1, 4, 4), chains=8, temperatures=5).log_likelihood.shape
    torch.Size([7])
    """
    check_images(images, model)
    check(chains=chains, temperatures=temperatures, leapfrog=leapfrog)
    betas, results = schedule(temperatures), []
    with prepared(model, images.device, seed):
        size, layout = images_at_once(model, images, chains + scouts, rows)
        for x in images.split(size):
            log_w, acceptance, _ = from_prior(
                target_of(model, x, layout), betas, chains, step_size, leapfrog, scouts=scouts, progress=progress
            )
            results.append(torch.stack([*with_error(log_w), acceptance]).cpu())
    log_likelihood, error, ess, acceptance = torch.cat(results, -1)
    return AnnealedScore(log_likelihood, error, ess, acceptance, chains, temperatures)


def from_prior(target, betas, chains, step_size, leapfrog, scouts=0, progress=iter):
    """Chains from draws of p(z): what `anneal` returns, and the step sizes (T - 1, batch) that the scouts found."""
    scouts = scouts if target.adapts else 0
    steps = torch.full((len(betas) - 2, len(target.x)), step_size, dtype=torch.float64, device=target.x.device)
    z = target.draw(scouts + chains)
    return *anneal(target, z, betas, steps, leapfrog, scouts=scouts, progress=progress), steps


def anneal(target, z, betas, steps, leapfrog, scouts=0, progress=iter):
    """Chains from z through p(z) p(x | z)^β, from the first β to the last.

    E[w] is the last density's integral over the first one's, if that is where z is from: p(x) for β from 0 to 1, and
    1/p(x) for β from 1 to 0 and z ~ p(z | x).

    Args:
        target: a `Target`.
        z: (scouts + chains, batch, dimension).
        betas: T + 1 numbers.
        steps: the transitions' step sizes, (T - 1, batch); with scouts, what they find is written into it.

    Returns:
        log w, (chains, batch) float64, and the acceptance rate of the last tenth of the transitions, (batch,).
    """
    point = target(z)
    log_w, rates = torch.zeros_like(point.likelihood), torch.zeros_like(steps)
    for t, (before, beta) in enumerate(progress(list(pairwise(betas)))):
        log_w += (beta - before) * point.likelihood
        if t == len(steps):  # where another transition led to would not be weighed
            break
        size = steps[t] * (1 + JITTER * (2 * torch.rand_like(log_w) - 1))
        point, acceptance = target.transition(point, beta, size, leapfrog)
        rates[t] = acceptance[scouts:].mean(0)
        if scouts and t + 1 < len(steps):
            steps[t + 1] = steps[t] * (GAIN * (acceptance[:scouts].mean(0) - ACCEPTANCE)).exp()
    return log_w[scouts:], rates[-max(1, len(rates) // 10) :].mean(0)


def schedule(temperatures):
    """β_0 = 0 < … < β_T = 1: a sigmoid, slow at both ends.

    >>> [round(beta, 3) for beta in schedule(4)]
    [0.0, 0.105, 0.5, 0.895, 1.0]
    """
    x = torch.linspace(-STEEPNESS, STEEPNESS, temperatures + 1, dtype=torch.float64).sigmoid()
    return ((x - x[0]) / (x[-1] - x[0])).tolist()


def with_error(log_w):
    """(log 1/C Σ w, its Monte Carlo error, effective sample size) of (C, batch) log weights, each (batch,)."""
    ess = effective_sample_size(log_w)
    return log_mean(log_w), relative_error(ess, len(log_w)), ess


def target_of(model, x: Tensor, layout: Layout) -> Target | DiscreteTarget:
    """log p(z) and log p(x | z) as chains see them: over ℝⁿ, or over codes where latents have finitely many values."""
    supports = finite_latents(model, x, layout)
    return Target(model, x, layout) if supports is None else DiscreteTarget(model, x, supports, layout)


def images_at_once(model, images, chains, rows):
    """The number of images whose chains are `rows` at a time, and the model's layout.

    All of them where the model runs on no part of them.
    """
    (x, *_), layout = arrange(images, 2, model)  # of two images, so that a latent which both share shows
    target = target_of(model, x, layout)  # raises its errors before anything is measured
    if len(x) > 2:
        return len(images), layout
    if rows is None:
        with same_noise(images.device):
            rows = rows_that_fit(lambda n: target(target.draw(n)), images.device, len(x))
    return max(1, rows // chains), layout


@contextmanager
def prepared(model, device, seed):
    """Inside, `model` stands still: only z has a gradient."""
    with (
        evaluation_mode(model),
        constant_parts(model),
        without_gradients(model),
        seeded(seed, device=device),
        pyro.validation_enabled(False),
        torch.no_grad(),
    ):
        yield


def check(**counts):
    """Raises a ValueError that names the counts that are less than 1."""
    wrong = ", ".join(f"{name} {count}" for name, count in counts.items() if count < 1)
    if wrong:
        raise ValueError(f"annealing expects at least one each of {', '.join(counts)}, got {wrong}")
