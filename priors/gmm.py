"""A mixture of Gaussians fitted to codes, as the prior."""

import torch
from torch import Tensor
from vampyro.priors.base import Prior

from vampyro.distributions import FullNormal, Mixture


class FittedMixture(Prior):
    """p(z) = Σ_k π_k N(z; loc_k, L_k L_kᵀ), fitted by EM to the codes of a trained model, and then fixed:
    ex-post density estimation (Ghosh et al. 2020, arXiv:1903.12436).

    It makes a deterministic auto-encoder generative, and closes what lies between the aggregated posterior and the
    prior that a VAE was trained with.

    Args:
        loc: (K, latent).
        scale_tril: L, (K, latent, latent), lower triangular.
        weights: π, (K,), adding up to 1.

    forward: () → Mixture, batch shape (), event shape (latent,).

    >>> codes = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    >>> prior = FittedMixture.fit(codes, components=2)
    >>> prior
    FittedMixture(2 components with full covariances, 3)
    >>> prior().sample((4,)).shape
    torch.Size([4, 3])
    """

    loc: Tensor
    scale_tril: Tensor
    logits: Tensor

    def __init__(self, loc: Tensor, scale_tril: Tensor, weights: Tensor):
        super().__init__()
        self.register_buffer("loc", loc)
        self.register_buffer("scale_tril", scale_tril)
        self.register_buffer("logits", weights.log())

    @classmethod
    def fit(cls, codes: Tensor, components: int = 10, seed: int = 0) -> "FittedMixture":
        """By scikit-learn's EM in float64, from k-means; in the dtype and on the device of the codes.

        Args:
            codes: (N, latent).
            components: K.
            seed: of k-means, which takes it modulo 2³².

        Raises:
            ValueError: where codes are not finite, or fewer than K (latent + 1): a covariance that has full rank takes
                latent + 1 codes.
        """
        from sklearn.mixture import GaussianMixture  # a second, which only this prior pays

        count, latent = codes.shape
        if count < components * (latent + 1):
            raise ValueError(
                f"{components} Gaussians with full covariances in {latent} dimensions need at least "
                f"{components} · {latent + 1} = {components * (latent + 1)} codes, got {count}: take fewer components"
            )
        if not codes.isfinite().all():
            raise ValueError("the codes to fit a mixture to are not all finite")
        mixture = GaussianMixture(components, max_iter=1000, random_state=seed % 2**32)
        mixture.fit(codes.double().cpu().numpy())
        loc, covariance, weights = map(torch.from_numpy, (mixture.means_, mixture.covariances_, mixture.weights_))
        return cls(*(tensor.to(codes) for tensor in (loc, torch.linalg.cholesky(covariance), weights)))

    def forward(self) -> Mixture:
        return Mixture(FullNormal(self.loc, scale_tril=self.scale_tril), self.logits)

    def __repr__(self) -> str:
        return f"FittedMixture({len(self.loc)} components with full covariances, {self.loc.shape[1]})"
