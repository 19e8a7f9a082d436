"""Radial flow: layers that contract or expand around a centre, inverted in closed form."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from vampyro.flows.transform import Flow, LayeredBijection
from vampyro.nets.context import Conditioner


class Radial(LayeredBijection):
    """x → x + (s_l - α_l) (x - c_l) / (α_l + ‖x - c_l‖), l = 1…L   (Rezende & Mohamed 2015, arXiv:1505.05770).

    With r = ‖x - c‖ a layer moves x along its ray to the distance ρ = r (s + r) / (α + r), which grows with r for
    every α, s > 0: invertible, and the identity at s = α. Backwards, r² + (s - ρ) r - α ρ = 0 has one
    positive root. The Jacobian has ρ/r in the latent - 1 directions across the ray and ∂ρ/∂r along it:

        log |det| = (latent - 1) log((s + r)/(α + r)) + log((r² + 2αr + sα)/(α + r)²)

    Shapes: centre (*batch, length, latent); alpha, s (*batch, length), positive.

    >>> flow = Radial(torch.randn(3, 2), torch.ones(3), torch.full((3,), 4.0))
    >>> x = torch.randn(5, 2)
    >>> torch.allclose(flow.inv(flow(x).clone()), x, atol=1e-5)
    True
    """

    def __init__(self, centre: Tensor, alpha: Tensor, s: Tensor):
        super().__init__()
        self.centre, self.alpha, self.s = centre, alpha, s
        self.length, self.latent = centre.shape[-2:]

    @property
    def batch_shape(self) -> torch.Size:
        return self.alpha.shape[:-1]

    def layer(self, index: int, z: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        centre, alpha, s = self.centre[..., index, :], self.alpha[..., index], self.s[..., index]
        r = _norm(z - centre)
        if inverse:
            # Of the root's two forms, the one in which nothing cancels. |b| by `where`, as abs has no slope at 0.
            rho, b = r, s - r
            twice = torch.where(b > 0, b, -b) + (b.square() + 4 * alpha * rho).sqrt()
            r = torch.where(b > 0, 2 * alpha * rho / twice, 0.5 * twice)
        factor = (alpha + r) / (s + r) if inverse else (s + r) / (alpha + r)
        z = centre + factor.unsqueeze(-1) * (z - centre)
        across = ((s + r) / (alpha + r)).log()
        along = ((r * r + 2 * alpha * r + s * alpha) / (alpha + r).square()).log()
        return z, (z.shape[-1] - 1) * across + along


def _norm(x):
    """‖x‖ with a finite gradient at 0."""
    return (x.square().sum(-1) + torch.finfo(x.dtype).tiny).sqrt()


class RadialFlow(Flow):
    """h → Radial(c(h), α(h), s(h)), or with `shared` one set of parameters for all h.

    α = softplus(a) and s = α exp(β): β = 0 is the identity, where it starts but for small noise.

    >>> RadialFlow(features=300, latent=40, length=5)(torch.zeros(7, 300))
    Radial(length=5)
    """

    def __init__(self, features: int, latent: int, length: int = 5, shared: bool = False):
        super().__init__(length, shared)
        shapes = [(length, latent), (length,), (length,)]
        self.conditioner = Conditioner(features, shapes, scales=[0.5, 0.1, 0.1], shared=shared)

    def forward(self, h: Tensor | None) -> Radial:
        centre, a, beta = self.conditioner(h)
        alpha = softplus(a)
        return Radial(centre, alpha, alpha * beta.exp())
