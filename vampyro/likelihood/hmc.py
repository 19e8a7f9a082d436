"""Hamiltonian Monte Carlo on a model's latents, for all images and chains at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to

from vampyro.programs.checks import check_support
from vampyro.programs.layout import Layout, check_own, log_density, trace_samples
from vampyro.programs.traces import Site, Sites, latents_of, sample_sites, to_precise


class Point(NamedTuple):
    """State of the chains: z, with log p(z) and log p(x | z) in nats and their gradients with respect to z.

    For a `DiscreteTarget`, z is the row at every position, and the gradients are the changes by every move.
    """

    z: Float[Tensor, "chains batch dimension"] | Int[Tensor, "chains batch positions"]
    prior: Float64[Tensor, "chains batch"]
    likelihood: Float64[Tensor, "chains batch"]
    prior_gradient: Float[Tensor, "chains batch directions"]
    likelihood_gradient: Float[Tensor, "chains batch directions"]

    def log_density(self, beta: float) -> Tensor:
        """log p(z) p(x | z)^β."""
        return self.prior + beta * self.likelihood

    def gradient(self, beta: float) -> Tensor:
        """∇ log p(z) p(x | z)^β."""
        return self.prior_gradient + beta * self.likelihood_gradient


def transition(
    target: Callable[[Tensor], Point], point: Point, beta: float, step: Tensor, leapfrog: int
) -> tuple[Point, Tensor]:
    """Make one transition that leaves p(z) p(x | z)^β invariant   (Neal 2011, arXiv:1206.1901).

    Sample a momentum from N(0, I), make `leapfrog` steps of size `step`, (batch,) or (chains, batch), and correct
    their error by Metropolis' rule.

    Returns:
        the next `Point`, and the probability with which the proposal was accepted, (chains, batch).

    >>> def normal(z): return Point(z, -0.5 * z.double().square().sum(-1), z.new_zeros(z.shape[:-1]), -z, 0 * z)
    >>> start = normal(torch.zeros(4, 5, 2))
    >>> point, acceptance = transition(normal, start, 1.0, torch.full((5,), 0.1), leapfrog=10)
    >>> point.z.shape, bool((acceptance > 0.9).all())
    (torch.Size([4, 5, 2]), True)
    """
    size = step.to(point.z.dtype).unsqueeze(-1)
    momentum = torch.randn_like(point.z)
    before = point.log_density(beta) - _kinetic(momentum)
    end = point
    for _ in range(leapfrog):
        momentum = momentum + 0.5 * size * end.gradient(beta)
        end = target(end.z + size * momentum)
        momentum = momentum + 0.5 * size * end.gradient(beta)
    return metropolis(end, point, end.log_density(beta) - _kinetic(momentum) - before)


def metropolis(end: Point, point: Point, log_ratio: Tensor) -> tuple[Point, Tensor]:
    """Choose `end` or `point` for each chain and image by Metropolis' rule; return also the probability of `end`."""
    # A trajectory that diverged has a ratio of NaN and is rejected.
    acceptance = log_ratio.exp().clamp(max=1).nan_to_num(0.0)
    accepted = torch.rand_like(acceptance) < acceptance
    pairs = zip(end, point)
    chosen = (torch.where(accepted if new.ndim == 2 else accepted.unsqueeze(-1), new, old) for new, old in pairs)
    return Point(*chosen), acceptance


def _kinetic(momentum):
    return 0.5 * momentum.double().square().sum(-1)


class BaseTarget:
    """log p(z) and log p(x | z) of a model at the latents of chains; a subclass defines how they move.

    Args:
        model: a Pyro program over a batch of images.
        x: (batch, …).
        layout: the batch dimensions of the model.
    """

    shapes: dict[str, Any]  # a key for every latent
    adapts = False  # True if the step size follows the acceptance rate

    def __init__(self, model: Callable, x: Tensor, layout: Layout = Layout()):
        self.model, self.x, self.layout = model, x, layout

    def coordinates(self, name: str, site: dict) -> Tensor:
        """Return a latent's value as the chains move it, (chains, batch, size)."""
        raise NotImplementedError

    def __call__(self, z: Tensor) -> Point:
        """Return the state of chains at z, (chains, batch, size)."""
        raise NotImplementedError

    def transition(self, point: Point, beta: float, step: Tensor, leapfrog: int) -> tuple[Point, Tensor]:
        """Return the next state, and its acceptance rate (chains, batch)."""
        raise NotImplementedError

    @torch.no_grad()  # a prior that is computed only once must not keep a graph
    def sites(self, chains: int, values: dict[str, Tensor]) -> Sites:
        """Run the model for some chains with fixed latents {name: (chains, *batch, *event)}; return its sites."""
        fixed = poutine.condition(self.model, data=values)
        return sample_sites(trace_samples(fixed, chains, self.x, layout=self.layout))

    def latents(self) -> Sites:
        """Return {name: site} of the latents in one chain, after a check of all sites."""
        sites = self.sites(1, {})
        check_own(sites, len(self.x), self.layout, 1)
        check_support(sites)
        return latents_of(sites)

    def draw(self, chains: int, values: dict[str, Tensor] | None = None) -> Tensor:
        """Sample z, (chains, batch, size), from the prior, or set it to `values`, {name: (*batch, *event)}."""
        values = {name: value.expand(chains, *value.shape) for name, value in (values or {}).items()}
        sites = self.sites(chains, values)
        return torch.cat([self.coordinates(name, sites[name]) for name in self.shapes], -1)

    def log_probs(self, trace: poutine.Trace) -> tuple[Tensor, Tensor]:
        """(log p(z), log p(x | z)) at a trace of the model, both (chains, batch) float64."""
        site: Site
        for site in map(trace.nodes.__getitem__, self.shapes):
            site["value"] = to_precise(site["fn"], site["value"])
        # A latent that the model masks is sampled from its prior, so log p(z) has its density.
        prior = log_density(trace, self.layout, only=self.shapes, unmasked=self.shapes)
        return prior, torch.zeros_like(prior) + log_density(trace, self.layout, without=self.shapes)


class Target(BaseTarget):
    """log p(z) and log p(x | z) of a model with gradients, as a function of all its latents, concatenated to z.

    A latent with bounded support moves in ℝⁿ through torch's bijection, and p(z) is the density there. Networks
    compute in float32, densities of latents in float64.

    forward: (chains, batch, dimension) → `Point`.

    Raises:
        ValueError: if the model has no latent, or one that is discrete, shared between images, or has no bijection.

    >>> from vampyro.models import VAE; from vampyro.priors import StandardNormal; from vampyro import nets
    >>> decoder = torch.nn.Sequential(nets.MLP((2,), (8,)), nets.BernoulliHead(8, (1, 4, 4)))
    >>> target = Target(VAE(StandardNormal(2), decoder), torch.zeros(5, 1, 4, 4))
    >>> target(target.draw(3)).likelihood.shape
    torch.Size([3, 5])
    """

    adapts = True
    transition = transition

    def __init__(self, model: Callable, x: Tensor, layout: Layout = Layout()):
        super().__init__(model, x, layout)
        latents = self.latents()
        if not latents:
            raise ValueError("the model has no latent site, so its log p(x) needs no sampling")
        self.shapes = {name: self._unconstrained(name, site).shape[2:] for name, site in latents.items()}

    def coordinates(self, name: str, site: dict) -> Tensor:
        value = self._unconstrained(name, site)
        return value.reshape(*value.shape[:2], -1)

    def __call__(self, z: Tensor) -> Point:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            parts = z.split([shape.numel() for shape in self.shapes.values()], -1)
            shapes = zip(self.shapes, parts, self.shapes.values())
            values = {n: self.layout.images_back(part.reshape(*z.shape[:2], *shape)) for n, part, shape in shapes}
            with _Placed(values, self.layout) as placed:
                trace = trace_samples(self.model, len(z), self.x, layout=self.layout)
            prior, likelihood = self.log_probs(trace)
            prior = prior + placed.log_det
            # The two densities may share the graph of a bijection.
            gradients = _gradient(prior, z, retain_graph=True), _gradient(likelihood, z)
        return Point(z.detach(), prior.detach(), likelihood.detach(), *gradients)

    def _unconstrained(self, name, site):
        """Return a latent site's value in ℝⁿ, (chains, images, *shape)."""
        fn, value = site["fn"], site["value"]
        if fn.support.is_discrete:
            raise ValueError(
                f"annealing needs latents that are all continuous or all have finitely many values; the site {name!r} "
                f"is discrete ({type(fn).__name__}) and unbounded, or other latents are continuous: sum it out of the "
                "model, or use score(model, guide, x)"
            )
        try:
            return self.layout.images_first(biject_to(fn.support).inv(value))
        except NotImplementedError:
            error = f"torch has no bijection from real numbers to {fn.support}, the support of the latent {name!r}"
            raise ValueError(f"{error}: use score(model, guide, x)") from None


class _Placed(Messenger):
    """Set latents to the images of `values` under the bijections to their supports, and sum the log-determinants."""

    def __init__(self, values, layout):
        super().__init__()
        self.values, self.layout, self.log_det = values, layout, 0.0

    def _pyro_sample(self, msg):
        if msg["name"] in self.values:
            bijection, free = biject_to(msg["fn"].support), self.values[msg["name"]]
            value = bijection(free)
            log_det = bijection.log_abs_det_jacobian(free, value).double()
            log_det = log_det.reshape(*log_det.shape[: 1 + self.layout.rank], -1).sum(-1)
            self.log_det = self.log_det + self.layout.per_image(log_det)
            msg["value"], msg["is_observed"] = value, True


def _gradient(log_prob, z, **options):
    """Return the gradient with respect to z; zeros for a density that does not depend on it."""
    if not log_prob.requires_grad:
        return torch.zeros_like(z)
    return torch.autograd.grad(log_prob.sum(), z, materialize_grads=True, **options)[0]
