"""Bidirectional Monte Carlo: how far annealed importance sampling may be off, from both sides."""

from dataclasses import dataclass
from itertools import chain

import torch
from pyro import poutine
from torch import nn

from vampyro.likelihood.ais import anneal, check, from_prior, images_at_once, prepared, schedule, target_of, with_error
from vampyro.programs.checks import check_images
from vampyro.programs.estimate import or_none, standard_error


@dataclass(frozen=True)
class Bounds:
    """log p(x) of N images that the model itself drew, between two stochastic bounds, nats per image.

    In expectation `lower` ≤ log p(x) ≤ `upper`; `lower_error` and `upper_error` are their Monte Carlo errors over
    chains: float64 tensors (N,). `images`, (N, …), are those images: other estimates of their log p(x) belong between.
    """

    lower: torch.Tensor
    upper: torch.Tensor
    lower_error: torch.Tensor
    upper_error: torch.Tensor
    images: torch.Tensor
    chains: int
    temperatures: int

    @property
    def gap(self):
        """upper - lower, (N,): in expectation no less than the error of either."""
        return self.upper - self.lower

    @property
    def standard_error(self):
        """Of the mean gap, over images; nan for a single one."""
        return standard_error(self.gap)

    def summary(self):
        """The figures, as JSON may hold them: None for the standard error of a single image."""
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

    def __repr__(self):
        return (
            f"Bounds({self.lower.mean():.2f} ≤ log p(x) ≤ {self.upper.mean():.2f} nats per image, gap "
            f"{self.gap.mean():.3f} ± {self.standard_error:.3f}, {len(self.gap)} images of the model's own, "
            f"{self.chains} chains, {self.temperatures} temperatures)"
        )


def bdmc(
    model,
    *,
    images=100,
    chains=16,
    temperatures=1000,
    leapfrog=10,
    step_size=0.1,
    scouts=4,
    seed=0,
    rows=None,
    progress=iter,
):
    """log 1/C Σ_c w_c ≤ log p(x) ≤ -log 1/C Σ_c v_c, each in expectation   (Grosse et al. 2015, arXiv:1511.02543).

    The model draws (z*, x) ~ p(z) p(x | z). Given x, z* is a sample of the posterior p(z | x), and an exact one. From
    the prior chains go to the posterior as in `ais`, E[w] = p(x); from z* they go the same way back, with the same
    step sizes, v = Π_t p(x | z_t)^(β_{t-1} - β_t), E[v] = 1/p(x). By Jensen's inequality the logarithms are bounds.
    What the gap is on the model's own images is a measure of `ais` with these arguments on real ones.

    The chains of one image all start back from the same z*: v of each is unbiased, but their spread
    (`upper_error`) has no part of what another z* would have changed.

    Args:
        model: a Pyro program; `model(batch=N)` draws N images and returns them, `model(x)` observes them.
        images: N.
        chains, temperatures, leapfrog, step_size, scouts, seed, rows, progress: as of `ais`, in either direction.

    Raises:
        ValueError: as `ais` does; where `model(batch=N)` returns no batch of N images.

    >>> from vampyro.models import VAE; from vampyro.priors import StandardNormal; from vampyro import nets
    >>> decoder = torch.nn.Sequential(nets.MLP((2,), (8,)), nets.BernoulliHead(8, (1, 4, 4)))
    >>> bounds = bdmc(VAE(StandardNormal(2), decoder), images=7, chains=8, temperatures=5)
    >>> bounds.gap.shape, bounds.images.shape
    (torch.Size([7]), torch.Size([7, 1, 4, 4]))
    """
    check(images=images, chains=chains, temperatures=temperatures, leapfrog=leapfrog)
    betas, results = schedule(temperatures), []
    with prepared(model, device_of(model), seed):
        try:
            simulation = poutine.trace(model).get_trace(batch=images)
        except TypeError as error:
            raise TypeError(
                f"model(batch={images}) failed ({str(error).splitlines()[0]}): bdmc needs a model that draws images "
                "itself and returns them, model(x=None, *, batch=1), with obs=None where x is None"
            ) from error
        simulated = simulation.nodes["_RETURN"]["value"]
        if not isinstance(simulated, torch.Tensor) or len(simulated) != images:
            raise ValueError(f"model(batch={images}) is expected to return the {images} images that it drew")
        check_images(simulated, model)
        size, layout = images_at_once(model, simulated, chains + scouts, rows)
        for part in (slice(start, start + size) for start in range(0, images, size)):
            target = target_of(model, simulated[part], layout)
            log_w, _, steps = from_prior(target, betas, chains, step_size, leapfrog, scouts=scouts, progress=progress)
            latents = {name: simulation.nodes[name] for name in target.shapes}
            values = {n: layout.select(site["value"], site["fn"].event_dim, part) for n, site in latents.items()}
            exact = target.draw(chains, values)
            log_v, _ = anneal(target, exact, betas[::-1], steps.flip(0), leapfrog, progress=progress)
            (lower, lower_error, _), (inverse, upper_error, _) = with_error(log_w), with_error(log_v)
            results.append(torch.stack([lower, -inverse, lower_error, upper_error]).cpu())
    return Bounds(*torch.cat(results, -1), simulated, chains, temperatures)


def device_of(model):
    """Where a module's tensors are; a function is taken to draw on the CPU's numbers."""
    tensors = chain(model.parameters(), model.buffers()) if isinstance(model, nn.Module) else iter(())
    return next(tensors, torch.empty(0)).device
