"""The head of a VQ-VAE: features to the nearest codes of a codebook that follows the encoder."""

import pyro
import torch
from jaxtyping import Float
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor, nn

from vampyro.distributions import CodeDistribution, Codes, Quantised
from vampyro.distributions.codes import squared_distances
from vampyro.nets.heads import Head

DIMENSION = 4  # of a code
COMMITMENT = 0.25  # β of the paper
DECAY = 0.99  # γ of its averages
DEAD = 0.1  # a code used less than this fraction of its share starts again
JITTER = 1e-3  # in σ, around the vector on which a code starts: two vectors may be equal, two codes may not


class Learner(nn.Module):
    """A part of a guide whose buffers do not learn by gradients: after each optimiser step the engine calls `learn`
    with the present inputs of `forward` for the same images.

    >>> class Centred(Learner):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.register_buffer("mean", torch.zeros(()))
    ...     def forward(self, h):
    ...         return h - self.mean
    ...     def learn(self, h):
    ...         self.mean.lerp_(h.mean(), 0.1)
    >>> part = Centred(); part.learn(torch.ones(7, 3)); part.mean
    tensor(0.1000)
    """

    def learn(self, *inputs: Tensor) -> None:
        """Change the buffers in place; without gradients, and without waiting for a device."""
        raise NotImplementedError


class VectorQuantiser(Head, Learner):
    """h → q(z | x) over M vectors of codes e_1 … e_K in ℝ^d   (van den Oord et al. 2017, arXiv:1711.00937).

    The encoding v = linear(h) is M vectors. In training mode q is the point mass on the codes nearest to them, with the
    straight-through gradient, and the loss has the commitment β Σ_m ‖v_m - sg(e_m)‖², a factor of the guide. In
    evaluation mode q is a distribution that importance sampling can draw from,

        q(k_m | x) = softmax_k(-‖v_m - e_k‖² / 2Tσ²),

    for T = 1 the posterior of a mixture of Normals about the codes, σ² the mean square of v - e per dimension in
    training. T = 2, as a wider q is a better proposal: log p̂ of 100 test digits, S = 200, is 2.4 nats higher.

    No gradient moves the codebook: `learn` is online k-means (the paper's appendix). With n_k the vectors of a batch
    nearest to e_k and s_k their sum,

        N_k ← γ N_k + (1 - γ) n_k,   e_k ← e_k + (1 - γ) (s_k - n_k e_k) / N_k.

    A code whose N_k is below a tenth of the mean moves to a random vector of the batch, plus noise of 1e-3 σ; its N_k
    becomes the mean. So do all codes at the first batch. σ² is that of the second batch, then an average.

    Args:
        features, latent: the lengths of h and of z, which is M·d.
        codes, dimension: K, d; a ValueError where `latent` is not a multiple of d.

    >>> VectorQuantiser(300, 40, codes=64)(torch.zeros(7, 300))
    Quantised(64^10 vectors, batch 7, event 40)
    >>> VectorQuantiser(300, 40, codes=64).eval()(torch.zeros(7, 300))
    Codes(64^10 vectors, batch 7, event 40)
    """

    temperature = 2.0  # T
    codes: Tensor
    counts: Tensor
    variance: Tensor

    def __init__(self, features: int, latent: int, codes: int = 64, dimension: int = DIMENSION):
        super().__init__()
        if latent % dimension:
            raise ValueError(f"codes of {dimension} numbers do not fill a latent of {latent}: expected a multiple")
        self.linear = nn.Linear(features, latent)
        self.register_buffer("codes", torch.randn(codes, dimension))
        self.register_buffer("counts", torch.zeros(codes))  # N_k
        self.register_buffer("variance", torch.ones(()))  # σ², 1 until the first batch after the codes are placed

    def codebook(self) -> Tensor:
        return self.codes

    def forward(self, h: Float[Tensor, "*batch features"]) -> CodeDistribution:
        encoded = self.linear(h)
        if not self.training:
            return Codes(-squared_distances(encoded, self.codes) / (2 * self.temperature * self.variance), self.codes)
        q = Quantised(encoded, self.codes)
        if am_i_wrapped():  # outside of a program there is nothing to train
            # What a guide's factor adds is taken from the ELBO.
            pyro.factor("commitment", COMMITMENT * (encoded - q.codes).square().sum(-1), has_rsample=True)
        return q

    @torch.no_grad()
    def learn(self, h: Float[Tensor, "n features"]) -> None:  # type: ignore[override]
        """Move the codes towards the vectors of a batch."""
        encoded, size = self.linear(h).unflatten(-1, (-1, self.codes.shape[-1])).flatten(0, -2), len(self.codes)
        distances, nearest = squared_distances(encoded, self.codes).squeeze(-2).min(-1)
        hot = (nearest.unsqueeze(-1) == torch.arange(size, device=h.device)).to(encoded.dtype)
        n, s = hot.sum(0), hot.mT @ encoded
        fresh = self.counts == 0
        self.counts.lerp_(n, 1 - DECAY)
        change = (s - n.unsqueeze(-1) * self.codes) / self.counts.clamp(min=torch.finfo(s.dtype).tiny).unsqueeze(-1)
        self.codes.add_(change, alpha=1 - DECAY)
        spread = (distances.mean() / self.codes.shape[-1]).clamp(min=torch.finfo(s.dtype).eps)
        spread = torch.where(self.variance == 1, spread, self.variance.lerp(spread, 1 - DECAY))
        self.variance.copy_(torch.where(fresh.all(), self.variance, spread))
        # The j-th dead code gets the j-th vector of a random order; where there are fewer vectors, later ones wait.
        share = len(encoded) / size
        dead = fresh | (self.counts < DEAD * share)
        place = dead.cumsum(0) - 1
        dead = dead & (place < len(encoded))
        order = torch.rand(len(encoded), device=h.device).argsort()
        vectors = encoded[order[place.clamp(0, len(encoded) - 1)]]
        vectors = vectors + JITTER * self.variance.sqrt() * torch.randn_like(vectors)
        self.codes.copy_(torch.where(dead.unsqueeze(-1), vectors, self.codes))
        self.counts.copy_(self.counts.masked_fill(dead, share))

    def __repr__(self) -> str:
        count, dimension = self.codes.shape
        inputs, latent = self.linear.in_features, self.linear.out_features
        return f"VectorQuantiser({inputs} → {latent // dimension} × {dimension}, {count} codes)"
