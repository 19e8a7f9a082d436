"""The Normal with a full covariance, with the algebra that mixtures need."""

import math

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor


class FullNormal(dist.MultivariateNormal):
    """N(z; loc, L Lᵀ), scored pairwise in the precision of the points.

    Args:
        loc: (..., latent).
        scale_tril: L, (..., latent, latent), lower triangular with a positive diagonal; by its name.

    >>> p = FullNormal(torch.zeros(3, 2), scale_tril=torch.eye(2).expand(3, 2, 2))
    >>> p.pairwise_log_prob(torch.zeros(5, 2, dtype=torch.float64)).shape       # 5 points under each of 3 components
    torch.Size([5, 3])
    """

    def pairwise_log_prob(self, z: Float[Tensor, "*points latent"]) -> Float[Tensor, "*points components"]:
        """log N(z_n; loc_k, L_k L_kᵀ) for every point and component: -½ ‖L⁻¹(z - loc)‖² - log |L| - ½ D log 2π.

        Args:
            z: (..., latent); this distribution's batch shape must be (K,).

        Returns:
            (..., K), nats.
        """
        loc, scale = self.loc.to(z.dtype), self.scale_tril.to(z.dtype)
        points = z.reshape(-1, z.shape[-1])
        deviations = (points - loc.unsqueeze(1)).mT  # (K, latent, N)
        whitened = torch.linalg.solve_triangular(scale, deviations, upper=False)
        log_det = scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = log_det + 0.5 * z.shape[-1] * math.log(2 * math.pi)
        return (-0.5 * whitened.square().sum(1) - constant.unsqueeze(-1)).T.reshape(*z.shape[:-1], len(loc))

    def __repr__(self):
        return f"FullNormal(batch {'×'.join(map(str, self.batch_shape)) or '()'}, event {self.event_shape[0]})"
