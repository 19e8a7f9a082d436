"""Normal distributions with the algebra that mixtures need."""

import math
from collections.abc import Callable

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from vampyro.distributions.base import Distribution


class DiagonalNormal(Distribution, dist.Independent):  # type: ignore[override]
    """N(z; loc, diag(scale²)), loc and scale (..., latent): the last dimension is one event.

    >>> q = DiagonalNormal(torch.zeros(3, 2), torch.ones(3, 2))
    >>> q, q.pairwise_log_prob(torch.zeros(5, 2)).shape        # 5 points under each of 3 components
    (DiagonalNormal(batch 3, event 2), torch.Size([5, 3]))
    """

    def __init__(
        self,
        loc: Float[Tensor, "*#batch latent"],
        scale: Float[Tensor, "*#batch latent"],
        validate_args: bool | None = None,
    ):
        normal = dist.Normal(loc, scale, validate_args=validate_args)
        self.loc, self.scale = normal.loc, normal.scale
        super().__init__(normal, 1, validate_args=validate_args)

    def with_parameters(self, change: Callable[[Tensor], Tensor]) -> "DiagonalNormal":
        return DiagonalNormal(change(self.loc), change(self.scale), validate_args=False)

    def pairwise_log_prob(self, z: Float[Tensor, "*points latent"]) -> Float[Tensor, "*points components"]:
        """log N(z_n; loc_k, scale_k²) for every point and component, in the precision of `z`.

        With δ = z - loc, the exponent -½ Σ_d δ²/σ² = Σ_d z²·(-½/σ²) + z·(loc/σ²) - ½ loc²/σ² is
        one matrix product of [z², z] with [-½/σ², loc/σ²]: no (N, K, D) tensor is ever made.
        """
        loc, scale = self.loc.to(z.dtype), self.scale.to(z.dtype)
        # A common offset of z and loc cancels in δ but not in the rounding of the products: centre first.
        centre = loc.detach().mean(0)
        z, loc = z - centre, loc - centre
        precision = scale.pow(-2)
        weight = torch.cat([-0.5 * precision, loc * precision], -1)
        constant = -(0.5 * loc.square() * precision + scale.log() + 0.5 * math.log(2 * math.pi)).sum(-1)
        points = z.reshape(-1, z.shape[-1])
        # A row for each component: the gradient's sums over points go along the rows.
        scores = weight @ torch.cat([points.square(), points], -1).T + constant.unsqueeze(-1)
        return scores.T.reshape(*z.shape[:-1], len(loc))


class FullNormal(Distribution, dist.MultivariateNormal):
    """N(z; loc, L Lᵀ), loc (..., latent), scale_tril=L (..., latent, latent), scored in the precision of the points.

    >>> p = FullNormal(torch.zeros(3, 2), scale_tril=torch.eye(2).expand(3, 2, 2))
    >>> p.pairwise_log_prob(torch.zeros(5, 2, dtype=torch.float64)).shape       # 5 points under each of 3 components
    torch.Size([5, 3])
    """

    expand = dist.MultivariateNormal.expand

    def pairwise_log_prob(self, z: Float[Tensor, "*points latent"]) -> Float[Tensor, "*points components"]:
        """-½ ‖L⁻¹(z - loc)‖² - log |L| - ½ D log 2π for every point and component."""
        loc, scale = self.loc.to(z.dtype), self.scale_tril.to(z.dtype)
        points = z.reshape(-1, z.shape[-1])
        deviations = (points - loc.unsqueeze(1)).mT  # (K, latent, N)
        whitened = torch.linalg.solve_triangular(scale, deviations, upper=False)
        log_det = scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = log_det + 0.5 * z.shape[-1] * math.log(2 * math.pi)
        return (-0.5 * whitened.square().sum(1) - constant.unsqueeze(-1)).T.reshape(*z.shape[:-1], len(loc))
