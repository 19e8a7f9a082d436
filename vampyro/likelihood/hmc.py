"""Hamiltonian Monte Carlo on a model's latents, for all images and chains at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to

from vampyro.programs.checks import check_support
from vampyro.programs.layout import Layout, check_own, log_density, traced
from vampyro.programs.traces import Sites, latents_of, precise, sample_sites


class Point(NamedTuple):
    """State of the chains: z, with log p(z) and log p(x | z) in nats and their gradients with respect to z."""

    z: Float[Tensor, "chains batch dimension"]
    prior: Float64[Tensor, "chains batch"]
    likelihood: Float64[Tensor, "chains batch"]
    prior_gradient: Float[Tensor, "chains batch dimension"]
    likelihood_gradient: Float[Tensor, "chains batch dimension"]

    def log_density(self, beta: float) -> Tensor:
        """log p(z) p(x | z)^β."""
        return self.prior + beta * self.likelihood

    def gradient(self, beta: float) -> Tensor:
        return self.prior_gradient + beta * self.likelihood_gradient


def transition(
    target: Callable[[Tensor], Point], point: Point, beta: float, step: Tensor, leapfrog: int
) -> tuple[Point, Tensor]:
    """Make one transition that leaves p(z) p(x | z)^β invariant   (Neal 2011, arXiv:1206.1901).

    Draw a momentum from N(0, I), make `leapfrog` steps, and correct their error by Metropolis' rule.

    Args:
        target: z → `Point`, for example a `Target`.
        point: the current state.
        beta: the inverse temperature.
        step: step size, (batch,) or (chains, batch).

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


def metropolis(end: Any, point: Any, log_ratio: Tensor) -> tuple[Any, Tensor]:
    """Apply Metropolis' rule: `end` or `point` for each chain and image, and the probability of `end`."""
    # A trajectory that diverged leaves NaN and is rejected.
    acceptance = log_ratio.exp().clamp(max=1).nan_to_num(0.0)
    accepted = torch.rand_like(acceptance) < acceptance
    pairs = zip(end, point)
    chosen = (torch.where(accepted if new.ndim == 2 else accepted.unsqueeze(-1), new, old) for new, old in pairs)
    return type(point)(*chosen), acceptance


def _kinetic(momentum):
    return 0.5 * momentum.double().square().sum(-1)


class BaseTarget:
    """log p(z) and log p(x | z) of a model at the latents of chains; a subclass says how they move.

    Args:
        model: a Pyro program over a batch of images.
        x: (batch, …).
        layout: where the images lie in the model.

    Attributes:
        shapes: a dict with a key for every latent.
        adapts: whether the step size follows the acceptance rate.
    """

    shapes: dict[str, Any]
    adapts = False

    def __init__(self, model: Callable, x: Tensor, layout: Layout = Layout()):
        self.model, self.x, self.layout = model, x, layout

    def coordinates(self, name: str, site: dict) -> Tensor:
        """Return a latent's value as the chains move it, (chains, batch, size)."""
        raise NotImplementedError

    def __call__(self, z: Tensor) -> Any:
        """Return the state of chains at z, (chains, batch, size)."""
        raise NotImplementedError

    def transition(self, point: Any, beta: float, step: Tensor, leapfrog: int) -> tuple[Any, Tensor]:
        """Return the next state, and its acceptance rate (chains, batch)."""
        raise NotImplementedError

    @torch.no_grad()  # a prior that is computed once must keep no graph
    def sites(self, chains: int, values: dict[str, Tensor]) -> Sites:
        """Run the model in so many chains; `values` fixes latents, {name: (chains, *batch, *event)}."""
        fixed = poutine.condition(self.model, data=values)
        return sample_sites(traced(fixed, chains, self.x, layout=self.layout))

    def latents(self) -> Sites:
        """{name: site} of the latents in one chain, after a check of all sites."""
        sites = self.sites(1, {})
        check_own(sites, len(self.x), self.layout, 1)
        check_support(sites)
        return latents_of(sites)

    def draw(self, chains: int, values: dict[str, Tensor] | None = None) -> Tensor:
        """Sample z, (chains, batch, size), from the prior; or put all chains at `values`, {name: (*batch, *event)}."""
        values = {name: value.expand(chains, *value.shape) for name, value in (values or {}).items()}
        sites = self.sites(chains, values)
        return torch.cat([self.coordinates(name, sites[name]) for name in self.shapes], -1)

    def log_probs(self, trace: poutine.Trace) -> tuple[Tensor, Tensor]:
        """(log p(z), log p(x | z)) at a trace of the model, both (chains, batch) float64."""
        sites = sample_sites(trace)
        for name in self.shapes:
            sites[name]["value"] = precise(sites[name]["fn"], sites[name]["value"])
        trace.compute_log_prob()
        # A latent that the model masks keeps its prior: it is sampled from p(z) and then not used.
        prior = log_density({name: sites.pop(name) for name in self.shapes}, self.layout, unmasked=self.shapes)
        return prior, torch.zeros_like(prior) + log_density(sites, self.layout)


class Target(BaseTarget):
    """z → log p(z) and log p(x | z) of a model, with gradients; z holds all its latents next to each other.

    A latent of bounded support moves in the whole of ℝⁿ, through torch's bijection to the support, and p(z) is the
    density there. Networks compute in float32, densities of latents in float64, as in scoring.

    forward: (chains, batch, dimension) → `Point`.

    Raises:
        ValueError: where the model has no latent, or one that is discrete, has no bijection to ℝⁿ, or is not
            the image's own.

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
                trace = traced(self.model, len(z), self.x, layout=self.layout)
            prior, likelihood = self.log_probs(trace)
            prior = prior + placed.log_det
            # The graphs of the two densities may share a bijection.
            gradients = _gradient(prior, z, retain_graph=True), _gradient(likelihood, z)
        return Point(z.detach(), prior.detach(), likelihood.detach(), *gradients)

    def _unconstrained(self, name, site):
        """A latent site's value in ℝⁿ, (chains, images, *shape)."""
        fn, value = site["fn"], site["value"]
        if fn.support.is_discrete:
            raise ValueError(
                f"annealing needs latents that are all continuous or all have finitely many values; the site {name!r} "
                f"is discrete ({type(fn).__name__}) and unbounded, or stands next to continuous latents: sum it out of "
                "the model, or use score(model, guide, x)"
            )
        try:
            return self.layout.images_first(biject_to(fn.support).inv(value))
        except NotImplementedError:
            error = f"torch knows no bijection from real numbers to {fn.support}, the latent {name!r}'s"
            raise ValueError(error) from None


class _Placed(Messenger):
    """Puts latents at the images of `values` under the bijections to their supports, and sums the log-determinants."""

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
    """Gradient with respect to z; zeros for a density that does not depend on it."""
    if not log_prob.requires_grad:
        return torch.zeros_like(z)
    return torch.autograd.grad(log_prob.sum(), z, materialize_grads=True, **options)[0]
