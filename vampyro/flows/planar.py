"""Planar flow: layers that push along one direction, with an exact inverse."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn.functional import softplus

from vampyro.distributions import DiagonalNormal
from vampyro.flows.root import derivative, solve
from vampyro.flows.transform import Flow, LayeredBijection
from vampyro.nets.context import Conditioner

MIN_SLOPE = 1e-6  # a flatter layer has no inverse in float32
OFFSET = math.log(math.expm1(1 - MIN_SLOPE))  # softplus(OFFSET) = 1 - MIN_SLOPE
CACHED_PAIRS = 2**16  # of point and component, at a time
GROUP_SIZE = 8  # layers whose effects on each other are computed one by one


class Planar(LayeredBijection):
    """x → x + û_l tanh(w_l·x + b_l) for l = 1…L   (Rezende & Mohamed 2015, arXiv:1505.05770).

    A layer is invertible where w·û > -1. With a = w·u and m(a) = ε + softplus(a + log(exp(1 - ε) - 1)) - 1, ε = 1e-6,
    û = u + (m(a) - a) w/‖w‖² has w·û = m(a) > -1 + ε for any u and w. Unlike the paper's
    softplus(a) - 1, m(0) = 0: u = 0 is the identity, and û stays bounded as w → 0.

    Shapes: u, w (*batch, length, latent), b (*batch, length).

    >>> flow = Planar(torch.randn(3, 2), torch.randn(3, 2), torch.randn(3))
    >>> x = torch.randn(5, 2)
    >>> torch.allclose(flow.inv(flow(x).clone()), x, atol=1e-4)
    True
    """

    def __init__(self, u: Tensor, w: Tensor, b: Tensor):
        super().__init__()
        a = (w * u).sum(-1)
        self.slope = MIN_SLOPE + softplus(a + OFFSET)  # 1 + w·û = 1 + m(a), the derivative where tanh = 0
        # m(a) - a is divided by ‖w‖², so for small a it is computed without cancellation:
        # exp(m(a)) = 1 + (1 - exp(ε - 1)) (exp(a) - 1).
        small = a.clamp(max=1)
        shift = torch.where(a > 1, self.slope - 1 - a, (-math.expm1(MIN_SLOPE - 1) * small.expm1()).log1p() - small)
        self.u = u + (shift / (w.square().sum(-1) + 1e-12)).unsqueeze(-1) * w
        self.w, self.b = w, b
        self.length, self.latent = w.shape[-2:]

    @property
    def batch_shape(self) -> torch.Size:
        return self.b.shape[:-1]

    def layer(self, index: int, z: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        v = (self.w[..., index, :] * z).sum(-1) + self.b[..., index]
        slope = self.slope[..., index]
        t = solve(v, slope) if inverse else v.tanh()
        shift = self.u[..., index, :] * t.unsqueeze(-1)
        return z - shift if inverse else z + shift, derivative(t, slope).log()

    def pairwise_log_prob(self, base: DiagonalNormal, z: Tensor, pairs: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """The density of T_k(base_k) at every z_n, without a (N, K, D) tensor.

        Going back through component k's layers, the point before layer l is z - Σ_{j≥l} û_j t_j, so

            w_l·y_l = w_l·z - Σ_{j>l} (w_l·û_j) t_j                    gives t_l by `solve`,
            -½‖x - loc‖²_P = -½‖δ‖²_P + Σ_l t_l ⟨û_l, δ⟩_P - ½ Σ_lj t_l t_j ⟨û_l, û_j⟩_P

        where δ = z - loc and ⟨a, b⟩_P = Σ_d a_d b_d / scale_d². All products with z are GEMMs, all
        others are L×L per component; everything else is (K, L, N).
        """
        points = z.reshape(-1, z.shape[-1])
        if pairs is not None:
            point, (used, component) = pairs[0], pairs[1].unique(return_inverse=True)
            some: Any = self.select(used, z.dtype)
            return some._pulled(
                base.select(used, z.dtype),
                points,
                each=lambda t: t[component],
                both=lambda t: t[component, point],
                along=lambda m, t: (m[component] * torch.stack(t, -1).unsqueeze(1)).sum(-1).unbind(-1),
            )
        # Without gradients nothing is kept: on a CPU, blocks of points fit its cache. A compiler makes its own blocks.
        small = not torch.is_grad_enabled() and z.device.type == "cpu" and get_proxy_mode() is None
        blocks = points.split(max(1, CACHED_PAIRS // self.batch_shape[0])) if small else [points]
        everything = {
            "each": lambda t: t.unsqueeze(-1),
            "both": lambda t: t,
            "along": lambda m, t: (m @ torch.stack(t, 1)).unbind(1),
        }
        log_prob = [self._pulled(base, block, **everything) for block in blocks]
        return torch.cat(log_prob, -1).T.reshape(*z.shape[:-1], self.batch_shape[0])

    def _pulled(self, base, z, each, both, along):
        """The densities (K, N), or (P,), with `each` (K,) → (K, 1), or (P,), `both` (K, N) → (K, N), or (P,), and
        `along` M (K, l, n) and n tensors t as `both` gives them → the l tensors M t.

        The effect of a group of layers on all before it is one batched product, so the cost is linear in the length.
        """
        w, u, b, slope, loc, scale = (t.to(z.dtype) for t in (self.w, self.u, self.b, self.slope, base.loc, base.scale))
        centre = loc.detach().mean(0)  # as in DiagonalNormal
        u_precision = u * scale.pow(-2).unsqueeze(-2)  # (K, L, D)
        w_b = b + w @ centre
        u_loc = (u_precision * (loc - centre).unsqueeze(-2)).sum(-1)
        wz, uz = ((t.flatten(0, 1) @ (z - centre).T).unflatten(0, t.shape[:2]) for t in (w, u_precision))
        v = [both(wz[:, layer]) + each(w_b[:, layer]) for layer in range(self.length)]
        pull = [both(uz[:, layer]) - each(u_loc[:, layer]) for layer in range(self.length)]
        total = both(base.pairwise_log_prob(z).T)
        for stop in range(self.length, 0, -GROUP_SIZE):
            start = max(0, stop - GROUP_SIZE)
            t: dict[int, Tensor] = {}
            near = slice(start, stop)
            # ⟨·, û_j⟩ for each layer j, (K, ≤ GROUP_SIZE). torch runs small matrices of a batched GEMM one by one.
            wu, uu = ({j: (m[:, near] * u[:, None, j]).sum(-1) for j in range(start, stop)} for m in (w, u_precision))
            for layer in reversed(range(start, stop)):
                for later in t:
                    v[layer] = v[layer] - each(wu[later][:, layer - start]) * t[later]
                    pull[layer] = pull[layer] - each(uu[later][:, layer - start]) * t[later]
                own = each(slope[:, layer])
                t[layer] = solve(v[layer], own)
                moved = pull[layer] - 0.5 * each(uu[layer][:, layer - start]) * t[layer]
                total = total + t[layer] * moved - derivative(t[layer], own).log()
            if start:
                group = [t[layer] for layer in range(start, stop)]
                for m, rest in ((w, v), (u_precision, pull)):
                    for layer, change in enumerate(along(m[:, :start] @ u[:, near].mT, group)):
                        rest[layer] = rest[layer] - change
        return total


class PlanarFlow(Flow):
    """h → Planar(u(h), w(h), b(h)), or with `shared` one set of parameters for all h.

    Starts near the identity: u small and random, w of norm about one.

    >>> PlanarFlow(features=300, latent=40, length=5)(torch.zeros(7, 300))
    Planar(length=5)
    """

    def __init__(self, features: int, latent: int, length: int = 5, shared: bool = False):
        super().__init__(length, shared)
        shapes = [(length, latent), (length, latent), (length,)]
        self.conditioner = Conditioner(features, shapes, scales=[0.01, latent**-0.5, 0.0], shared=shared)

    def forward(self, h: Tensor | None) -> Planar:
        return Planar(*self.conditioner(h))
