"""Heads of encoders: the last layer, from features h to a distribution over latents."""

import pyro.distributions as dist
from jaxtyping import Float
from torch import Tensor, nn

from vampyro.distributions import BernoulliVector, DiagonalNormal
from vampyro.nets.base import Head

# The log-variances that Tomczak & Welling (2018) allow; q(z | x) and a VampPrior's components are
# the same function, so the same bounds hold for both.
LOG_VARIANCE = (-6.0, 2.0)


class NormalHead(Head):
    """h → N(loc(h), diag(scale(h)²)), both linear in h, log scale² kept in [-6, 2].

    forward: (..., features) → DiagonalNormal, batch shape (...), event shape (latent,).

    >>> import torch
    >>> NormalHead(300, 40)
    NormalHead(300 → 40)
    >>> NormalHead(300, 40)(torch.zeros(7, 300))
    DiagonalNormal(batch 7, event 40)
    """

    def __init__(self, features: int, latent: int):
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent)

    def forward(self, h: Float[Tensor, "*batch features"]) -> DiagonalNormal:
        loc, log_variance = self.linear(h).chunk(2, -1)
        return DiagonalNormal(loc, (0.5 * log_variance.clamp(*LOG_VARIANCE)).exp())

    def __repr__(self) -> str:
        return f"NormalHead({self.linear.in_features} → {self.linear.out_features // 2})"


class BinaryHead(Head):
    """h → Π_d Ber(z_d; σ(l_d(h))), the logits linear in h.

    forward: (..., features) → BernoulliVector, batch shape (...), event shape (latent,).

    >>> import torch
    >>> BinaryHead(300, 200)
    BinaryHead(300 → 200)
    >>> BinaryHead(300, 200)(torch.zeros(7, 300))
    BernoulliVector(batch 7, event 200)
    """

    def __init__(self, features: int, latent: int):
        super().__init__()
        self.linear = nn.Linear(features, latent)

    def forward(self, h: Float[Tensor, "*batch features"]) -> BernoulliVector:
        return BernoulliVector(self.linear(h))

    def __repr__(self) -> str:
        return f"BinaryHead({self.linear.in_features} → {self.linear.out_features})"


class DeltaHead(Head):
    """h → δ(z - point(h)), the point linear in h: the code of a deterministic auto-encoder.

    The density counts as 1 at the point, so that under `Trace_ELBO` a guide with this head maximises
    log p(x | z) + β log p(z) at z = point(h(x)): a regularised auto-encoder (Ghosh et al. 2020, arXiv:1903.12436),
    and with β = 0 a plain one. No bound on log p(x) follows; see `vampyro.likelihood.scoring_guide`.

    forward: (..., features) → Delta, batch shape (...), event shape (latent,).

    >>> import torch
    >>> DeltaHead(300, 40)
    DeltaHead(300 → 40)
    >>> DeltaHead(300, 40)(torch.zeros(7, 300)).event_shape
    torch.Size([40])
    """

    def __init__(self, features: int, latent: int):
        super().__init__()
        self.linear = nn.Linear(features, latent)

    def forward(self, h: Float[Tensor, "*batch features"]) -> dist.Delta:
        return dist.Delta(self.linear(h), event_dim=1)

    def __repr__(self) -> str:
        return f"DeltaHead({self.linear.in_features} → {self.linear.out_features})"
