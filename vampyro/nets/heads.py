"""Heads of encoders: the last layer, from features h to a distribution over latents."""

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vampyro.distributions import BernoulliVector, DiagonalNormal


class Head(nn.Module):
    """The last layer of an encoder or a decoder: (..., features), or (..., *map), → a distribution, batch shape (...).

    Any other module that computes one is a head too, without a codebook.

    >>> import pyro.distributions as dist
    >>> class LaplaceHead(Head):
    ...     def forward(self, h):
    ...         return dist.Laplace(h, 1.0).to_event(1)
    >>> LaplaceHead()(torch.zeros(7, 3)).event_shape, LaplaceHead().codebook()
    (torch.Size([3]), None)
    """

    def forward(self, h: Tensor) -> torch.distributions.Distribution:
        raise NotImplementedError

    def codebook(self) -> Tensor | None:
        """The codes (K, d) that its latents are made of, which a prior uses too; None where there are none."""
        return None


# The bounds of Tomczak & Welling (2018). They hold for q(z | x) and for the components of a VampPrior.
LOG_VARIANCE = (-6.0, 2.0)


class LinearHead(Head):
    """h (..., features) → distribution, batch shape (...), event shape (latent,), `numbers` linear in h per latent."""

    numbers = 1

    def __init__(self, features: int, latent: int):
        super().__init__()
        self.linear = nn.Linear(features, self.numbers * latent)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.linear.in_features} → {self.linear.out_features // self.numbers})"


class NormalHead(LinearHead):
    """h → N(loc(h), diag(scale(h)²)), both linear in h, log scale² kept in [-6, 2].

    >>> import torch
    >>> NormalHead(300, 40), NormalHead(300, 40)(torch.zeros(7, 300))
    (NormalHead(300 → 40), DiagonalNormal(batch 7, event 40))
    """

    numbers = 2

    def forward(self, h: Float[Tensor, "*batch features"]) -> DiagonalNormal:
        loc, log_variance = self.linear(h).chunk(2, -1)
        return DiagonalNormal(loc, (0.5 * log_variance.clamp(*LOG_VARIANCE)).exp())


class BinaryHead(LinearHead):
    """h → Π_d Ber(z_d; σ(l_d(h))), the logits linear in h.

    >>> import torch
    >>> BinaryHead(300, 200), BinaryHead(300, 200)(torch.zeros(7, 300))
    (BinaryHead(300 → 200), BernoulliVector(batch 7, event 200))
    """

    def forward(self, h: Float[Tensor, "*batch features"]) -> BernoulliVector:
        return BernoulliVector(self.linear(h))


class DeltaHead(LinearHead):
    """h → δ(z - point(h)), the point linear in h: the code of a deterministic auto-encoder.

    The density counts as 1 at the point, so that under `Trace_ELBO` a guide with this head maximises
    log p(x | z) + β log p(z) at z = point(h(x)): a regularised auto-encoder (Ghosh et al. 2020, arXiv:1903.12436),
    and with β = 0 a plain one. No bound on log p(x) follows; see `vampyro.likelihood.scoring_guide`.

    >>> import torch
    >>> DeltaHead(300, 40), DeltaHead(300, 40)(torch.zeros(7, 300)).event_shape
    (DeltaHead(300 → 40), torch.Size([40]))
    """

    def forward(self, h: Float[Tensor, "*batch features"]) -> dist.Delta:
        return dist.Delta(self.linear(h), event_dim=1)
