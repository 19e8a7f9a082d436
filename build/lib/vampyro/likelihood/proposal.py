"""A guide with a density in place of points, so that importance sampling has something to weigh by."""

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.distributions import constraints

from vampyro.objectives import Trace_ELBO
from vampyro.programs.checks import check_images, check_latents
from vampyro.programs.layout import points_of, some_images
from vampyro.programs.modes import constant_parts, evaluation_mode, without_gradients
from vampyro.programs.randomness import seeded
from vampyro.programs.traces import is_delta, kind_of_numbers, latents_of, sample_sites, trace_of

HIDDEN = 100


START = 0.3  # of the prior's deviation, the first scale


MOST = 2000  # images, from whose points the heads' inputs are standardised; draws of the model, for its deviations


def scoring_guide(model, guide, images: Float[Tensor, " images *event"], *, seed=0, steps=300, batch=100, lr=3e-3):
    """The guide to score a model with: `guide` itself where it has a density, otherwise a `NormalProposal`, fitted.

    A guide of points has no density, so that there are no importance weights. Any density serves in its place, since
    E_q'[p(x, z) / q'(z | x)] = p(x) for each; how well it serves, ESS and k̂ say. The proposal ascends the ELBO
    of the model as it stands, of which nothing changes, under the prior that it has now. Its ELBO is the
    `elbo` of a score made with it.

    Args:
        model: an `nn.Module` or another Pyro program over a batch of images.
        guide: likewise; is not changed.
        images: (N, channels, height, width), of the data; best such as the guide was not trained on, where its points
            are off as they are on test images.
        seed: of the fit; on one kind of device the proposal depends on it and on the arguments above and below alone.
        steps, batch, lr: of Adam, whose learning rate falls to zero.

    Raises:
        ValueError: where there are no images, model and guide do not have the same latents, or the model's latent at
            a point is not one on ℝⁿ.

    >>> from vampyro import assemble
    >>> from vampyro.likelihood import score
    >>> model, guide = assemble(posterior="delta", hidden=(8,), latent=2, shape=(1, 4, 4))
    >>> x = torch.zeros(50, 1, 4, 4)
    >>> proposal = scoring_guide(model, guide, x, steps=10)
    >>> proposal
    NormalProposal(z: 2)
    >>> score(model, proposal, x, samples=100).log_likelihood.shape
    torch.Size([50])
    >>> scoring_guide(model, proposal, x) is proposal
    True
    """
    check_images(images, model, guide)
    one = some_images(images, guide)
    if not points_of(guide, one):
        return guide
    with evaluation_mode(model, guide), seeded(seed, device=images.device):
        points, deviations = points_of(guide, images[:MOST]), _deviations(model, images)
        check_latents(deviations, latents_of(sample_sites(trace_of(guide, one))))
        proposal = NormalProposal(guide, points, deviations)
        proposal.to(images.device)
        parameters = list(proposal.heads.parameters())
        optimizer = torch.optim.Adam(parameters, lr=lr)
        objective = Trace_ELBO()
        with (
            torch.enable_grad(),
            constant_parts(model),
            without_gradients(model),
            without_gradients(guide),
            pyro.validation_enabled(False),
        ):
            for step in range(steps):
                x = images[torch.randint(len(images), (batch,), device=images.device)]
                loss = objective.differentiable_loss(model, proposal, x) / len(x)
                for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
                    parameter.grad = gradient
                optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
                optimizer.step()
    proposal.heads.requires_grad_(False)
    return proposal


class NormalProposal(nn.Module):
    """q'(z | x) = N(z; c + u·a(c), diag(u·b(c))²), c = c(x) the point where the guide puts z.

    A small network for each site sees the point and says a and log b: the posterior's mean is not the point, which is
    at best its mode, and how sharp it is there depends on where that is. Of the two a is worth more: without it the
    points of a plain auto-encoder, far out under the prior, leave a few weights all the rest (see
    docs/systems/autoencoder.md). Of several levels the lower one's point is given the upper one's draw.

    Args:
        guide: a Pyro program over a batch of images; sites that have a density stay as they are.
        points: {site: (N, *event)}, typical ones.
        deviations: {site: (*event)}, u: the model's own deviation of each latent.

    forward: x (batch, …), as the guide.
    """

    def __init__(self, guide, points, deviations):
        super().__init__()
        self.guide = guide
        self.heads = nn.ModuleDict({name: _Head(z, deviations[name]) for name, z in points.items()})

    def forward(self, x):
        with _Normals(self.heads):
            return self.guide(x)

    def __repr__(self):
        sizes = ", ".join(f"{name}: {head.unit.numel()}" for name, head in self.heads.items())
        return f"NormalProposal({sizes})"


class _Head(nn.Module):
    """point → Normal near it, of the same event."""

    def __init__(self, points, unit):
        super().__init__()
        points = points.flatten(1)
        self.register_buffer("unit", unit.flatten())
        self.register_buffer("centre", points.mean(0))
        # A dimension that no image uses has points that are all alike: their rounding is nothing to see.
        self.register_buffer("spread", points.std(0, correction=0).clamp(min=0.01 * self.unit))
        size = len(self.unit)
        last = nn.Linear(HIDDEN, 2 * size)
        nn.init.zeros_(last.weight)
        last.bias.data = torch.cat([torch.zeros(size), torch.full((size,), START).log()])
        self.network = nn.Sequential(nn.Linear(size, HIDDEN), nn.Tanh(), last)

    def forward(self, point, event):
        flat = point.reshape(*point.shape[: point.ndim - len(event)], -1)
        shift, log_scale = self.network((flat - self.centre) / self.spread).chunk(2, -1)
        loc, scale = flat + self.unit * shift, self.unit * log_scale.exp()
        return dist.Normal(loc.reshape(point.shape), scale.reshape(point.shape)).to_event(len(event))


class _Normals(Messenger):
    """Puts a Normal in the place of each point."""

    def __init__(self, heads):
        super().__init__()
        self.heads = heads

    def _pyro_sample(self, msg):
        if msg["name"] in self.heads and is_delta(msg["fn"]):
            msg["fn"] = self.heads[msg["name"]](msg["fn"].rsample(), msg["fn"].event_shape)


@torch.no_grad()
def _deviations(model, images):
    """{latent: (*event)}, standard deviations under the model, by MOST draws however few images there are."""
    with pyro.validation_enabled(False):
        sites = sample_sites(trace_of(model, images[torch.arange(MOST, device=images.device) % len(images)]))
    latents = latents_of(sites)
    for name, site in latents.items():
        if (support := kind_of_numbers(site["fn"])) is not constraints.real:
            raise ValueError(f"a Normal proposal is for latents on ℝⁿ, and the model's {name!r} lives on {support}")
    return {name: site["value"].std(0, correction=0) for name, site in latents.items()}
