"""A proposal with a density for guides of points, which have no importance weights."""

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
MAX_IMAGES = 2000  # to standardise the inputs of the heads, and to estimate standard deviations under the model


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
    """Return `guide` itself if it has a density, otherwise a `NormalProposal` that is fitted to it.

    A guide of points has no density, and therefore no importance weights. Any density q' can replace it, because
    E_q'[p(x, z) / q'(z | x)] = p(x); ESS and k̂ show how suitable it is. The proposal maximises the ELBO, while the
    model stays as it is. The `elbo` of a score with the proposal is the proposal's ELBO.

    Args:
        model: an `nn.Module` or another Pyro program over a batch of images.
        guide: a Pyro program; it is not changed.
        images: (N, channels, height, width), preferably images on which the guide was not trained, because there its
            points are as inaccurate as on test images.
        seed: on a given kind of device, the proposal depends only on it and on the other arguments.
        steps, batch, lr: settings of Adam, whose learning rate decreases to zero.

    Raises:
        ValueError: if there are no images, if model and guide have different latents, or if the support of a latent
            with points is not ℝⁿ.

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
    """q'(z | x) = N(z; c + u·a(c), diag(u·b(c))²), where c = c(x) is the guide's point.

    A small network for each site computes a and log b from the point. The shift a is needed because the point is at
    best the mode of the posterior, not its mean. For the points of a plain auto-encoder, which are far from the prior's
    mode, a improves the weights more than b does (docs/systems/autoencoder.md). With several levels, the point of the
    lower level depends on the sample of the upper one.

    Args:
        guide: a Pyro program over a batch of images; sites that have a density stay as they are.
        points: {site: (N, *event)}, points of typical images.
        deviations: {site: (*event)}, u: standard deviations of the latents under the model.

    forward: x (batch, …) → the guide's value.
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
    """point → Normal near it, with the same event shape."""

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
    """Replaces each point by a Normal."""

    def __init__(self, heads):
        super().__init__()
        self.heads = heads

    def _pyro_sample(self, msg):
        if msg["name"] in self.heads and is_delta(msg["fn"]):
            msg["fn"] = self.heads[msg["name"]](msg["fn"].rsample(), msg["fn"].event_shape)


@torch.no_grad()
def _deviations(model, images):
    """{latent: (*event)}, standard deviations under the model, estimated from MAX_IMAGES samples."""
    repeated = images[torch.arange(MAX_IMAGES, device=images.device) % len(images)]
    with pyro.validation_enabled(False):
        latents = latents_of(sample_sites(trace_of(model, repeated)))
    for name, site in latents.items():
        if (support := kind_of_numbers(site["fn"])) is not constraints.real:
            raise ValueError(f"a Normal proposal is for latents on ℝⁿ, and the support of {name!r} is {support}")
    return {name: site["value"].std(0, correction=0) for name, site in latents.items()}
