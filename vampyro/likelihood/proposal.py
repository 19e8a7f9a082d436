"""A guide with a density in place of points, which have no importance weights."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.distributions import constraints

from vampyro.objectives import Trace_ELBO
from vampyro.programs.checks import check_images, check_latents
from vampyro.programs.layout import Images, points_of, some_images
from vampyro.programs.modes import constant_parts, evaluation_mode, without_gradients
from vampyro.programs.randomness import seeded
from vampyro.programs.traces import is_delta, kind_of_numbers, latents_of, sample_sites, trace_of

HIDDEN = 100
INITIAL_SCALE = 0.3  # in units of the prior's standard deviation
MAX_IMAGES = 2000  # whose points standardise the heads' inputs, and samples of the model for its standard deviations


def scoring_guide(
    model: Callable,
    guide: Callable,
    images: Images,
    *,
    seed: int = 0,
    steps: int = 300,
    batch: int = 100,
    lr: float = 3e-3,
) -> Callable:
    """Return the guide to score a model with: `guide` itself where it has a density, otherwise a `NormalProposal`.

    A guide of points has no density, so there are no importance weights. Any density serves in its place, since
    E_q'[p(x, z) / q'(z | x)] = p(x) for each; ESS and k̂ show how well it serves. The proposal is fitted by the ELBO
    of the model as it is, which does not change. The `elbo` of a score with the proposal is the proposal's ELBO.

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
        points, deviations = points_of(guide, images[:MAX_IMAGES]), _deviations(model, images)
        check_latents(deviations, latents_of(sample_sites(trace_of(guide, one))))
        proposal = NormalProposal(guide, points, deviations).to(images.device)
        parameters = list(proposal.heads.parameters())
        optimizer, objective = torch.optim.Adam(parameters, lr=lr), Trace_ELBO()
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

    guide: Callable
    heads: Any  # nn.ModuleDict of `_Head`

    def __init__(self, guide: Callable, points: dict[str, Tensor], deviations: dict[str, Tensor]):
        super().__init__()
        self.guide = guide
        self.heads = nn.ModuleDict({name: _Head(z, deviations[name]) for name, z in points.items()})

    def forward(self, x: Tensor) -> Any:
        with _Normals(self.heads):
            return self.guide(x)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {head.unit.numel()}" for name, head in self.heads.items())
        return f"NormalProposal({sizes})"


class _Head(nn.Module):
    """point → Normal near it, of the same event."""

    unit: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, points, unit):
        super().__init__()
        points = points.flatten(1)
        self.register_buffer("unit", unit.flatten())
        self.register_buffer("centre", points.mean(0))
        # In a dimension that no image uses, the points differ by rounding errors only.
        self.register_buffer("spread", points.std(0, correction=0).clamp(min=0.01 * self.unit))
        size = len(self.unit)
        last = nn.Linear(HIDDEN, 2 * size)
        nn.init.zeros_(last.weight)
        last.bias.data = torch.cat([torch.zeros(size), torch.full((size,), INITIAL_SCALE).log()])
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
    """{latent: (*event)}, standard deviations under the model, from MAX_IMAGES samples even for fewer images."""
    repeated = images[torch.arange(MAX_IMAGES, device=images.device) % len(images)]
    with pyro.validation_enabled(False):
        latents = latents_of(sample_sites(trace_of(model, repeated)))
    for name, site in latents.items():
        if (support := kind_of_numbers(site["fn"])) is not constraints.real:
            raise ValueError(f"a Normal proposal is for latents on ℝⁿ, and the model's {name!r} lives on {support}")
    return {name: site["value"].std(0, correction=0) for name, site in latents.items()}
