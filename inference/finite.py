"""Latents with finitely many values: their codes, listed and summed over."""

import math
from typing import NamedTuple

import pyro
import torch
from jaxtyping import Float, Int
from pyro import poutine
from torch import Tensor
from torch.distributions import constraints

from distributions.codes import CodeVectors
from inference.evaluation import check_latents, is_masked, kind_of_numbers, unscaled
from inference.joint import Joint, traced
from inference.rng import same_noise
from inference.scores import Score
from inference.sites import Layout, check_own, latents_of, log_density, sample_sites

MAX_CODES = 4096  # summed over for each image: 12 bits


class Finite(NamedTuple):
    """A finite support: M positions, each of which takes one of the K rows of a table.

    A vector of bits has a position for every bit and the table ((0,), (1,)); a vector of codes a position for every
    code and its codebook as the table; a categorical variable one position and the table ((0,), …, (K - 1,)).
    """

    positions: int
    table: Float[Tensor, "values size"] | Int[Tensor, "values size"]
    shape: torch.Size

    @property
    def codes(self) -> int:
        """How many values there are in all, K^M."""
        return len(self.table) ** self.positions

    def at(self, index: Int[Tensor, "*batch positions"]) -> Tensor:
        """The values with these rows at the positions: (…, M) → (…, *shape)."""
        return self.table[index].reshape(*index.shape[:-1], *self.shape)

    def index_of(self, value: Tensor) -> Int[Tensor, "*batch positions"]:
        """The rows at the positions of these values: (…, *shape) → (…, M)."""
        batch = value.shape[: value.ndim - len(self.shape)]
        parts = value.reshape(*batch, self.positions, 1, -1)
        return (parts == self.table).all(-1).int().argmax(-1)

    def all(self) -> Int[Tensor, "codes positions"]:
        """The rows of every code, (K^M, M)."""
        digits = [torch.arange(len(self.table), device=self.table.device)] * self.positions
        return torch.cartesian_prod(*digits).reshape(-1, self.positions)


def finite(fn, value: Tensor, shape: torch.Size) -> Finite | None:
    """The support of a distribution with values like `value`, or None where it is not finite.

    Args:
        shape: of one image's value: the event shape, with the plates within an image in front.
    """
    kind, event = kind_of_numbers(fn), fn.event_shape
    if kind is constraints.boolean:
        table = torch.tensor([[0], [1]])
    elif isinstance(kind, type(constraints.integer_interval(0, 1))):
        if not (isinstance(kind.lower_bound, int) and isinstance(kind.upper_bound, int)):
            return None  # tensors: the support may differ between images
        table = torch.arange(kind.lower_bound, kind.upper_bound + 1).unsqueeze(-1)
    elif kind is constraints.one_hot:
        table = torch.eye(event[-1])
    elif isinstance(kind, CodeVectors):
        table = kind.codebook.detach()
    else:
        return None
    return Finite(shape.numel() // table.shape[1], table.to(value), shape)


def finite_latents(model, x: Tensor, layout: Layout = Layout()) -> dict[str, Finite] | None:
    """The support of every latent of a model, {site: Finite}; None where one is not finite, or there is no latent."""
    with torch.no_grad(), pyro.validation_enabled(False), same_noise(x.device):
        latents = latents_of(sample_sites(traced(model, 1, x, layout=layout)))
    found = {}
    for name, site in latents.items():
        value = layout.images_first(site["value"], site["fn"].event_dim)
        if (support := finite(site["fn"], value, value.shape[2:])) is None:
            return None
        found[name] = support
    return found or None


def all_codes(supports: dict[str, Finite]) -> dict[str, Tensor]:
    """Every combination of the latents' values, {site: (C, *shape)}."""
    rows = torch.cartesian_prod(
        *(torch.arange(support.codes, device=support.table.device) for support in supports.values())
    ).reshape(-1, len(supports))
    return {name: s.at(s.all()[rows[:, place]]) for place, (name, s) in enumerate(supports.items())}


def over_images(codes: dict[str, Tensor], images: int, layout: Layout = Layout()) -> dict[str, Tensor]:
    """The same codes for every image, as sites have them: {site: (C, *shape)} → {site: (C, *batch, *event)}."""
    values = {name: z.unsqueeze(1).expand(len(z), images, *z.shape[1:]) for name, z in codes.items()}
    return {name: layout.images_back(z, z.ndim - 1 - layout.rank) for name, z in values.items()}


@torch.no_grad()
def sum_over_codes(joint: Joint, guide, x: Tensor, codes: dict[str, Tensor], weigh) -> tuple[Tensor, Score]:
    """log p(x) = log Σ_z p(x, z) and E_q[log p(x, z) - log q(z | x)] over all codes z, for each image.

    Args:
        joint: the model's density.
        guide: gives q; where it is zero a code counts for log p(x) all the same.
        x: (batch, …).
        codes: {site: (C, *shape)}.
        weigh: yields (chunk, batch) of the model's log p(x, z) less a (C, batch) tensor, for values
            {site: (C, batch, *event)} (`inference.importance.weighed`).

    Returns:
        log p(x, z), (C, batch), and the score.

    A latent that the model masks has its prior in log p(x): without its density every value would count as 1. The ELBO
    is masked as it is in training.
    """
    layout, size = joint.layout, len(next(iter(codes.values())))
    values = over_images(codes, len(x), layout)
    zeros = torch.zeros((), device=x.device).expand(size, len(x))
    masked = log_p = torch.cat(list(weigh(joint, x, values, zeros)))
    sites = sample_sites(joint.trace(x, {name: value[:1] for name, value in values.items()}))
    if any(is_masked(sites[name]) for name in values):
        complete = Joint(joint.model, joint.compiled, layout, masked=False)
        log_p = torch.cat(list(weigh(complete, x, values, zeros)))
    with pyro.validation_enabled(False):
        trace = traced(poutine.condition(guide, data=values), size, x, layout=layout)
        sites = sample_sites(trace)
        check_latents(values, [name for name in sites if name in values or not sites[name]["is_observed"]])
        check_own(sites, len(x), layout, size)
        trace.compute_log_prob()
        log_q = sum(layout.per_image(unscaled(sites[name], masked=False)).double() for name in values)
        terms = torch.where(log_q == -math.inf, 0.0, log_q.exp() * (masked - log_density(sites, layout)))
    return log_p, Score.summed(log_p.logsumexp(0), terms.sum(0), size)
