"""Which components of a mixture prior, or codes of a codebook, the posteriors use."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vampyro.diagnostics.surgery import check_one_prior, examine
from vampyro.distributions import CodeDistribution, Mixture
from vampyro.programs.checks import check_counts
from vampyro.programs.layout import Images
from vampyro.programs.traces import to_precise

BLOCK = 2**24  # points × components


@dataclass(frozen=True, eq=False)
class ComponentUse:
    """`use` (K,) float64: the share of each component in the samples of the posteriors; the shares sum to 1."""

    site: str
    use: torch.Tensor

    @property
    def effective(self) -> float:
        """exp(entropy) of the shares: K if all are equal, 1 if every image uses the same component."""
        return torch.special.entr(self.use).sum().exp().item()

    def dead(self, share: float | int = 0.1) -> Tensor:
        """Indices of the components with a share below `share`/K."""
        return (self.use < share / len(self.use)).nonzero().squeeze(-1)

    def __repr__(self) -> str:
        return f"ComponentUse({self.site}: {self.effective:.1f} of {len(self.use)} effective, {len(self.dead())} dead)"


@torch.no_grad()
def component_use(
    model: Callable, guide: Callable, images: Images, samples: int = 10, *, seed: int = 0, batch_size: int = 500
) -> ComponentUse:
    """1/(NS) Σ_n Σ_s p(k | z_ns), z_ns ~ q(z | x_n), p(k | z) = π_k p_k(z) / p(z): component k's mean responsibility.

    The prior must be a `Mixture`. With several levels, this is the prior of the top level. A dead component does not
    change the likelihood, but it costs time in training.

    Args:
        model, guide: Pyro programs over a batch of images; an `nn.Module` is in evaluation mode during the call.
        images: (N, channels, height, width).
        samples: S, for each image.
        seed: of the samples.
        batch_size: images encoded at a time.

    Raises:
        ValueError: if the prior is not a mixture or depends on the image, if S < 1, or as `top_level`.

    >>> from vampyro import assemble
    >>> model, guide = assemble(prior="mog:4", hidden=(8,), latent=2, shape=(1, 4, 4))
    >>> component_use(model, guide, torch.rand(9, 1, 4, 4)).use.shape
    torch.Size([4])
    """
    check_counts(samples=samples)
    with examine(model, guide, images, seed, batch_size) as (name, p, posteriors):
        check_one_prior(model, name, images, batch_size)
        if not isinstance(p, Mixture):
            raise ValueError(
                f"component_use expects a prior that is a Mixture, and the prior of {name!r} is a {type(p).__name__}"
            )
        points = to_precise(p, torch.cat([q.sample((samples,)).flatten(0, 1) for q in posteriors]))
        size = p.component_log_prob(points[:1]).shape[-1]
        blocks = points.split(max(1, BLOCK // size))
        total: Any = sum(p.component_log_prob(block).softmax(-1).sum(0) for block in blocks)
    return ComponentUse(name, total.double() / len(points))


@torch.no_grad()
def code_use(
    model: Callable, guide: Callable, images: Images, samples: int = 10, *, seed: int = 0, batch_size: int = 500
) -> ComponentUse:
    """1/(NSM) Σ_n Σ_s Σ_m 1(z_nsm = e_k), z_ns ~ q(z | x_n): the share of each code; a vector has M codes.

    `effective` of the result is the perplexity of the codebook, exp of the entropy of the shares.

    Args: as `component_use`.

    Raises:
        ValueError: if the prior is not a `CodeDistribution`, if S < 1, or as `top_level`.

    >>> from vampyro import assemble
    >>> model, guide = assemble(posterior="vq:16", hidden=(8,), latent=8, shape=(1, 4, 4))
    >>> code_use(model, guide, torch.rand(9, 1, 4, 4)).use.shape
    torch.Size([16])
    """
    check_counts(samples=samples)
    with examine(model, guide, images, seed, batch_size) as (name, p, posteriors):
        if not isinstance(p, CodeDistribution):
            raise ValueError(f"code_use expects a prior over codes, and the prior of {name!r} is a {type(p).__name__}")
        shares = [p.one_hot(q.sample((samples,))).double().mean((0, -2)) for q in posteriors]
    return ComponentUse(name, torch.cat(shares).mean(0))
