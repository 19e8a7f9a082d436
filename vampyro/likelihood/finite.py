"""Latents with finitely many values, and lists of these values."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pyro
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution, constraints

from vampyro.distributions.codes import CodeVectors
from vampyro.programs.layout import Layout, trace_samples
from vampyro.programs.randomness import same_noise
from vampyro.programs.traces import kind_of_numbers, latents_of, sample_sites

MAX_CODES = 4096  # codes of an image that scoring sums over, 12 bits


class Finite(NamedTuple):
    """A finite support: M positions, each with one of the K rows of a table as its value.

    A vector of bits has the table ((0,), (1,)), a vector of codes its codebook, and a categorical variable has one
    position and the table ((0,), …, (K - 1,)).
    """

    positions: int
    table: Float[Tensor, "values size"] | Int[Tensor, "values size"]
    shape: torch.Size

    @property
    def codes(self) -> int:
        """The number of values, K^M."""
        return len(self.table) ** self.positions

    def at(self, index: Int[Tensor, "*batch positions"]) -> Tensor:
        """Return the values with these rows at the positions: (…, M) → (…, *shape)."""
        return self.table[index].reshape(*index.shape[:-1], *self.shape)

    def index_of(self, value: Tensor) -> Int[Tensor, "*batch positions"]:
        """Return the rows at the positions of these values: (…, *shape) → (…, M)."""
        batch = value.shape[: value.ndim - len(self.shape)]
        parts = value.reshape(*batch, self.positions, 1, -1)
        return (parts == self.table).all(-1).int().argmax(-1)

    def all(self) -> Int[Tensor, "codes positions"]:
        """Return the rows of every code, (K^M, M)."""
        digits = [torch.arange(len(self.table), device=self.table.device)] * self.positions
        return torch.cartesian_prod(*digits).reshape(-1, self.positions)


def finite(fn: Distribution, value: Tensor, shape: torch.Size) -> Finite | None:
    """Return the support of a distribution, or None if it is not finite.

    Args:
        value: one of its values, for the dtype and the device.
        shape: the shape of one image's value: plates within an image, then the event shape.
    """
    kind, event = kind_of_numbers(fn), fn.event_shape
    if kind is constraints.boolean:
        table = torch.tensor([[0], [1]])
    elif isinstance(kind, type(constraints.integer_interval(0, 1))):
        if not (isinstance(kind.lower_bound, int) and isinstance(kind.upper_bound, int)):
            return None  # bounds that are tensors may differ between images
        table = torch.arange(kind.lower_bound, kind.upper_bound + 1).unsqueeze(-1)
    elif kind is constraints.one_hot:
        table = torch.eye(event[-1])
    elif isinstance(kind, CodeVectors):
        table = kind.codebook.detach()
    else:
        return None
    return Finite(shape.numel() // table.shape[1], table.to(value), shape)


def finite_latents(model: Callable, x: Tensor, layout: Layout = Layout()) -> dict[str, Finite] | None:
    """Return {site: Finite} of a model's latents; None without latents or if a support is not finite."""
    with torch.no_grad(), pyro.validation_enabled(False), same_noise(x.device):
        latents = latents_of(sample_sites(trace_samples(model, 1, x, layout=layout)))
    found = {}
    for name, site in latents.items():
        value = layout.images_first(site["value"])
        if (support := finite(site["fn"], value, value.shape[2:])) is None:
            return None
        found[name] = support
    return found or None


def all_codes(supports: dict[str, Finite]) -> dict[str, Tensor]:
    """Return every combination of the latents' values, {site: (C, *shape)}."""
    each = [torch.arange(support.codes, device=support.table.device) for support in supports.values()]
    rows = torch.cartesian_prod(*each).reshape(-1, len(supports))
    return {name: s.at(s.all()[rows[:, place]]) for place, (name, s) in enumerate(supports.items())}


def few_codes(model: Callable, x: Tensor, layout: Layout, demanded: bool | None = None) -> dict[str, Tensor] | None:
    """Return `all_codes` of a model, or None for more than MAX_CODES; then raise a ValueError if `demanded`."""
    supports = finite_latents(model, x, layout)
    count = math.inf if supports is None else math.prod(support.codes for support in supports.values())
    if supports is not None and count <= MAX_CODES:
        return all_codes(supports)
    if demanded:
        found = "latents that are continuous or unbounded" if math.isinf(count) else f"{count} codes"
        raise ValueError(f"exact=True sums over at most {MAX_CODES} codes, and the model has {found}: leave out exact")
    return None
