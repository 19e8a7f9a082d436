"""The generative program with two levels of latents."""

from typing import Any

import pyro
from jaxtyping import Float
from torch import Tensor, nn

from vampyro.distributions.shapes import check_shape, plate_size


class TwoLevel(nn.Module):
    """p(z2) p(z1 | z2) p(x | z1, z2)   (the HVAE of Tomczak & Welling 2018, arXiv:1705.07120).

    Args:
        prior: () → p(z2), batch shape (), event shape (latent2,).
        middle: z2 → p(z1 | z2), (..., latent2) to batch shape (...), event shape (latent1,).
        decoder: (z1, z2), a pair, → p(x | z1, z2), event shape (channels, height, width).

    `model(x)` scores images x, (batch, channels, height, width); `model(batch=16)` draws some. Keyword arguments go to
    the decoder: `model(batch=16, y=3)` of a conditional model draws images of class 3.

    >>> from vampyro import assemble
    >>> model, guide = assemble(model="two-level", hidden=(32,), latent=(8, 4))
    >>> model(batch=16).shape
    torch.Size([16, 1, 28, 28])
    """

    def __init__(self, prior: nn.Module, middle: nn.Module, decoder: nn.Module):
        super().__init__()
        self.prior, self.middle, self.decoder = prior, middle, decoder

    def forward(self, x: Float[Tensor, " images *event"] | None = None, *, batch: Any = 1, **given: Any) -> Tensor:
        with pyro.plate("images", plate_size(x, batch)):
            z2 = pyro.sample("z2", self.prior())
            z1 = pyro.sample("z1", self.middle(z2))
            p = self.decoder((z1, z2), **given)
            return pyro.sample("x", p, obs=None if x is None else check_shape(x, p.event_shape, leading=1))
