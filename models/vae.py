"""The variational auto-encoder's generative program."""

from typing import Any

import pyro
from jaxtyping import Float
from torch import Tensor, nn

from vampyro.distributions.shapes import check_shape, plate_size


class VAE(nn.Module):
    """p(z) p(x | z)   (Kingma & Welling 2014, arXiv:1312.6114).

    Args:
        prior: () → p(z), batch shape (), event shape (latent,).
        decoder: z → p(x | z), (..., latent) to batch shape (...), event shape (channels, height, width).

    `model(x)` scores images x, (batch, channels, height, width); `model(batch=16)` draws some. Keyword arguments go to
    the decoder: `model(batch=16, y=3)` of a conditional model draws images of class 3.

    >>> from vampyro import nets, priors
    >>> decoder = nn.Sequential(nets.MLP((2,), (300,)), nets.BernoulliHead(300, (1, 28, 28)))
    >>> VAE(priors.StandardNormal(2), decoder)(batch=16).shape
    torch.Size([16, 1, 28, 28])
    """

    def __init__(self, prior: nn.Module, decoder: nn.Module):
        super().__init__()
        self.prior, self.decoder = prior, decoder

    def forward(self, x: Float[Tensor, " images *event"] | None = None, *, batch: Any = 1, **given: Any) -> Tensor:
        with pyro.plate("images", plate_size(x, batch)):
            z = pyro.sample("z", self.prior())
            p = self.decoder(z, **given)
            return pyro.sample("x", p, obs=None if x is None else check_shape(x, p.event_shape, leading=1))
