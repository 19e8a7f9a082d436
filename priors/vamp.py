"""The VampPrior: a mixture of the guide's own posteriors."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution
from vampyro.priors.base import Prior

from vampyro.distributions import Mixture
from vampyro.distributions.base import times


class VampPrior(Prior):
    """p(z) = 1/K Σ_k q(z | u_k)   (Tomczak & Welling 2018, arXiv:1705.07120).

    The prior that maximises the ELBO is the aggregated posterior 1/N Σ_n q(z | x_n). The VampPrior approximates it
    with K learned pseudo-inputs u_k in place of N images. The components are the guide's posteriors, flows included.

    Args:
        q: x → distribution over z: pass the bound method `guide.q`. This module's parameters are the pseudo-inputs
            alone: copy or save model and guide together.
        shape: of one image, (channels, height, width).
        components: K.
        images: (K, *shape) in [0, 1], where the pseudo-inputs start.
        trainable: learn the pseudo-inputs (False: they stay `images`).
        weighted: learn the mixture's weights too.

    Raises:
        ValueError, TypeError: name the argument, for example where `images` leaves [0, 1] or `q` is the guide itself.

    >>> from vampyro import nets, guides
    >>> guide = guides.Guide(nets.MLP((1, 28, 28), (300,)), nets.NormalHead(300, 2))
    >>> prior = VampPrior(guide.q, (1, 28, 28), components=50)
    >>> prior, prior()
    (VampPrior(50 pseudo-inputs of 1×28×28), Mixture(50 × DiagonalNormal, equal weights))
    """

    def __init__(
        self,
        q: Callable[[Tensor], Distribution],
        shape: Sequence[int],
        components: int = 500,
        images: Float[Tensor, " components *event"] | None = None,
        trainable: bool = True,
        weighted: bool = False,
    ):
        super().__init__()
        if isinstance(q, nn.Module):
            raise TypeError(f"VampPrior expects a function x → distribution: pass guide.q, not a {type(q).__name__}")
        if components < 1:
            raise ValueError(f"VampPrior expects components ≥ 1, got {components}")
        shape = (components, *shape)
        if images is None and not trainable:
            raise ValueError("a VampPrior with fixed pseudo-inputs needs the images to fix them to")
        if images is not None and tuple(images.shape) != shape:
            raise ValueError(f"VampPrior expects images of shape {shape}, got {tuple(images.shape)}")
        if images is not None and not (0 <= images.min() and images.max() <= 1):
            raise ValueError(f"VampPrior expects images in [0, 1], got [{images.min():g}, {images.max():g}]")
        self.q = q
        self.logits = nn.Parameter(torch.zeros(components)) if weighted else None
        if trainable:
            # σ(v) stays inside [0, 1] and, unlike a clamp, has a gradient at the edge. Without images it starts as dark
            # speckled noise. From N(0.05, 0.01²), where all components are nearly equal, training ends 3 nats lower.
            start = torch.randn(shape).mul(2).sub(3) if images is None else images.float().clamp(0.01, 0.99).logit()
            self.pseudo_logits, self.fixed = nn.Parameter(start), None
        elif images is not None:
            self.register_buffer("fixed", images.float().clone())

    def pseudo_inputs(self) -> Float[Tensor, " components *event"]:
        """u: (K, channels, height, width), inside [0, 1]."""
        return self.pseudo_logits.sigmoid() if self.fixed is None else self.fixed

    def forward(self) -> Mixture:
        return Mixture(self.q(self.pseudo_inputs()), self.logits)

    def __repr__(self) -> str:
        count, *shape = self.pseudo_inputs().shape
        fixed = "" if self.fixed is None else ", fixed"
        weights = "" if self.logits is None else ", learned weights"
        return f"VampPrior({count} pseudo-inputs of {times(shape)}{fixed}{weights})"
