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
from inference.evaluation import check_latents, kind_of_numbers, unscaled
from inference.joint import Joint, check_own, sample_sites, trace_of, traced
from inference.rng import same_noise
from inference.scores import Score

MAX_CODES = 4096  # summed over for each image: 12 bits


class Finite(NamedTuple):
    """A finite support: M positions, each of which takes one of the K rows of a table.

    A vector of bits has a position for every bit and the table ((0,), (1,)); a vector of codes a position for every
    code and its codebook as the table; a categorical variable one position and the table ((0,), …, (K - 1,)).
    """

    positions: int
    table: Float[Tensor, "values size"] | Int[Tensor, "values size"]
    event: torch.Size

    @property
    def codes(self) -> int:
        """How many values there are in all, K^M."""
        return len(self.table) ** self.positions

    def at(self, index: Int[Tensor, "*batch positions"]) -> Tensor:
        """The values with these rows at the positions: (…, M) → (…, *event)."""
        return self.table[index].reshape(*index.shape[:-1], *self.event)

    def index_of(self, value: Tensor) -> Int[Tensor, "*batch positions"]:
        """The rows at the positions of these values: (…, *event) → (…, M)."""
        batch = value.shape[: value.ndim - len(self.event)]
        parts = value.reshape(*batch, self.positions, 1, -1)
        return (parts == self.table).all(-1).int().argmax(-1)

    def all(self) -> Int[Tensor, "codes positions"]:
        """The rows of every code, (K^M, M)."""
        digits = [torch.arange(len(self.table), device=self.table.device)] * self.positions
        return torch.cartesian_prod(*digits).reshape(-1, self.positions)


def finite(fn, value: Tensor) -> Finite | None:
    """The support of a distribution with values like `value`, or None where it is not finite."""
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
    return Finite(event.numel() // table.shape[1], table.to(value), event)


def finite_latents(model, x: Tensor) -> dict[str, Finite] | None:
    """The support of every latent of a model, {site: Finite}; None where one is not finite, or there is no latent."""
    with torch.no_grad(), pyro.validation_enabled(False), same_noise(x.device):
        sites = sample_sites(trace_of(model, x))
    found = {name: finite(site["fn"], site["value"]) for name, site in sites.items() if not site["is_observed"]}
    return found if found and all(support is not None for support in found.values()) else None


def all_codes(supports: dict[str, Finite]) -> dict[str, Tensor]:
    """Every combination of the latents' values, {site: (C, *event)}."""
    rows = torch.cartesian_prod(
        *(torch.arange(support.codes, device=support.table.device) for support in supports.values())
    ).reshape(-1, len(supports))
    return {name: s.at(s.all()[rows[:, place]]) for place, (name, s) in enumerate(supports.items())}


def over_images(codes: dict[str, Tensor], images: int) -> dict[str, Tensor]:
    """The same codes for every image: {site: (C, *event)} → {site: (C, images, *event)}."""
    return {name: z.unsqueeze(1).expand(len(z), images, *z.shape[1:]) for name, z in codes.items()}


@torch.no_grad()
def sum_over_codes(joint: Joint, guide, x: Tensor, codes: dict[str, Tensor], weigh) -> tuple[Tensor, Score]:
    """log p(x) = log Σ_z p(x, z) and E_q[log p(x, z) - log q(z | x)] over all codes z, for each image.

    Args:
        joint: the model's density.
        guide: gives q; where it is zero a code counts for log p(x) all the same.
        x: (batch, …).
        codes: {site: (C, *event)}.
        weigh: yields (chunk, batch) of the model's log p(x, z) less a (C, batch) tensor, for values
            {site: (C, batch, *event)} (`inference.importance.weighed`).

    Returns:
        log p(x, z), (C, batch), and the score.
    """
    size, values = len(next(iter(codes.values()))), over_images(codes, len(x))
    log_p = torch.cat(list(weigh(joint, x, values, torch.zeros((), device=x.device).expand(size, len(x)))))
    with pyro.validation_enabled(False):
        trace = traced(poutine.condition(guide, data=values), size, x)
        sites = sample_sites(trace)
        check_latents(values, [name for name in sites if name in values or not sites[name]["is_observed"]])
        check_own({name: sites[name] for name in values}, (size, len(x)))
        trace.compute_log_prob()
    log_q = sum(unscaled(sites[name]).double() for name in values)
    terms = torch.where(log_q == -math.inf, 0.0, log_q.exp() * (log_p - log_q))
    return log_p, Score.summed(log_p.logsumexp(0), terms.sum(0), size)
