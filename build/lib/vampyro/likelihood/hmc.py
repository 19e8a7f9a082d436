"""Hamiltonian Monte Carlo on a model's latents, for all images and chains at once."""

from typing import NamedTuple

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch.distributions import biject_to

from vampyro.programs.checks import check_support
from vampyro.programs.layout import Layout, check_own, traced
from vampyro.programs.traces import latents_of, precise, sample_sites, unscaled


class Point(NamedTuple):
    """Where chains stand: z, with log p(z) and log p(x | z) there and their gradients by z.

    `z` and the gradients are (chains, batch, dimension), the densities (chains, batch) float64, nats.
    """

    z: torch.Tensor
    prior: torch.Tensor
    likelihood: torch.Tensor
    prior_gradient: torch.Tensor
    likelihood_gradient: torch.Tensor

    def log_density(self, beta):
        """log p(z) p(x | z)^β."""
        return self.prior + beta * self.likelihood

    def gradient(self, beta):
        return self.prior_gradient + beta * self.likelihood_gradient


def transition(target, point, beta, step, leapfrog):
    """One transition that leaves p(z) p(x | z)^β as it is   (Neal 2011, arXiv:1206.1901).

    A momentum from N(0, I), `leapfrog` steps, and Metropolis' rule for what they are off.

    Args:
        target: z → `Point`, a `Target` say.
        point: where the chains stand.
        beta: a number.
        step: the steps' size, (batch,) or (chains, batch).

    Returns:
        (the next `Point`, the probability with which the proposal was accepted, (chains, batch)).

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


def metropolis(end, point, log_ratio):
    """Metropolis' rule: (`end` or `point` for each chain and image, the probability of `end`, (chains, batch))."""
    # Not a number is what a trajectory leaves that ran away: it is turned down.
    acceptance = log_ratio.exp().clamp(max=1).nan_to_num(0.0)
    accepted = torch.rand_like(acceptance) < acceptance

    def chosen(new, old):
        return torch.where(accepted if new.ndim == 2 else accepted.unsqueeze(-1), new, old)

    return type(point)(*map(chosen, end, point)), acceptance


def _kinetic(momentum):
    return 0.5 * momentum.double().square().sum(-1)


class BaseTarget:
    """log p(z) and log p(x | z) of a model at the latents of chains: what targets of every kind share.

    A target has `shapes`, a dict with a key for every latent, and `coordinates(name, site)`, the latent's value as the
    chains move it, (chains, batch, size).

    Args:
        model: a Pyro program over a batch of images.
        x: (batch, …).
        layout: where the images lie in the model.
    """

    def __init__(self, model, x, layout=Layout()):
        self.model, self.x, self.layout = model, x, layout

    @torch.no_grad()  # what a prior keeps from its first call has no graph
    def sites(self, chains, values):
        """The sites of the model in so many chains; `values` fixes latents, {name: (chains, *batch, *event)}."""
        fixed = poutine.condition(self.model, data=values)
        return sample_sites(traced(fixed, chains, self.x, layout=self.layout))

    def latents(self):
        """{name: site} of the latents in one chain, after a check of all sites."""
        sites = self.sites(1, {})
        check_own(sites, len(self.x), self.layout, 1)
        check_support(sites)
        return latents_of(sites)

    def draw(self, chains, values=None):
        """z, (chains, batch, size): from the prior, or all chains at `values`, {name: (*batch, *event)}."""
        values = {name: value.expand(chains, *value.shape) for name, value in (values or {}).items()}
        sites = self.sites(chains, values)
        return torch.cat([self.coordinates(name, sites[name]) for name in self.shapes], -1)

    def log_probs(self, trace):
        """(log p(z), log p(x | z)) at a trace of the model, both (chains, batch) float64."""
        for name in self.shapes:
            trace.nodes[name]["value"] = precise(trace.nodes[name]["fn"], trace.nodes[name]["value"])
        trace.compute_log_prob()
        sites = sample_sites(trace)
        # A latent that the model masks has its prior: it is drawn from p(z) and then not seen.
        terms = {name: unscaled(site, with_mask=name not in self.shapes) for name, site in sites.items()}
        log_probs = {name: self.layout.per_image(term).double() for name, term in terms.items()}
        prior = sum(log_probs.pop(name) for name in self.shapes)
        return prior, sum(log_probs.values(), torch.zeros_like(prior))


class Target(BaseTarget):
    """z → log p(z) and log p(x | z) of a model, with gradients; z holds all its latents side by side.

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

    adapts = True  # its step size, to the acceptance rate
    transition = transition

    def __init__(self, model, x, layout=Layout()):
        super().__init__(model, x, layout)
        latents = self.latents()
        if not latents:
            raise ValueError("the model has no latent site, so its log p(x) needs no sampling")
        self.shapes = {name: self._free(name, site).shape[2:] for name, site in latents.items()}

    def coordinates(self, name, site):
        value = self._free(name, site)
        return value.reshape(*value.shape[:2], -1)

    def __call__(self, z):
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            prior, likelihood = self._at(z)
            # Of two: a bijection may be on both ways.
            gradients = _gradient(prior, z, retain_graph=True), _gradient(likelihood, z)
        return Point(z.detach(), prior.detach(), likelihood.detach(), *gradients)

    def _at(self, z):
        """(log p(z), log p(x | z)), both (chains, batch) float64."""
        parts = z.split([shape.numel() for shape in self.shapes.values()], -1)
        values = {
            name: self.layout.images_back(part.reshape(*z.shape[:2], *shape))
            for (name, shape), part in zip(self.shapes.items(), parts)
        }
        with _At(values, self.layout) as at:
            trace = traced(self.model, len(z), self.x, layout=self.layout)
        prior, likelihood = self.log_probs(trace)
        return prior + at.log_det, likelihood

    def _free(self, name, site):
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


class _At(Messenger):
    """Puts latents at what the bijections to their supports make of `values`."""

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
    """By z; zeros for a density that does not depend on it."""
    if not log_prob.requires_grad:
        return torch.zeros_like(z)
    return torch.autograd.grad(log_prob.sum(), z, materialize_grads=True, **options)[0]
