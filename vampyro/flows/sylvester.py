"""Sylvester flow: layers that bend a whole subspace at once."""

import torch
from torch import Tensor, nn

from vampyro.flows.planar import MIN_SLOPE
from vampyro.flows.root import derivative, solve
from vampyro.flows.transform import Flow, LayeredBijection
from vampyro.nets.context import Conditioner

MAX_RANK = 16  # dimensions that a layer bends, unless the user asks for more


class Sylvester(LayeredBijection):
    """x → x + Q_l R_l tanh(R̃_l Q_lᵀ x + b_l), l = 1…L   (van den Berg et al. 2018, arXiv:1803.05649).

    Q has M orthonormal columns, R and R̃ are upper triangular with diagonals r, r̃ and r r̃ > -1. Then

        log |det| = Σ_i log(1 + r_i r̃_i (1 - t_i²)),  t = tanh(R̃ Qᵀx + b).

    Inverse: only Qᵀx moves, from w to v = w + R t. The rows are solved from the last to the first. Row i, multiplied
    by r̃_i, is planar's equation s + r_i r̃_i tanh(s) = r̃_i (v_i - Σ_{j>i} R_ij t_j) + c_i for s = r̃_i w_i + c_i,
    c_i = b_i + Σ_{j>i} R̃_ij w_j.

    Shapes: q (*batch, length, latent, M); r, r_tilde (*batch, length, M, M); b (*batch, length, M).

    >>> eye = torch.eye(2).expand(3, 2, 2)
    >>> flow = Sylvester(eye, torch.randn(3, 2, 2).triu(1), torch.randn(3, 2, 2).triu(1), torch.randn(3, 2))
    >>> x = torch.randn(5, 2)
    >>> torch.allclose(flow.inv(flow(x).clone()), x, atol=1e-4)
    True
    """

    def __init__(self, q: Tensor, r: Tensor, r_tilde: Tensor, b: Tensor):
        super().__init__()
        self.q, self.r, self.r_tilde, self.b = q, r, r_tilde, b
        self.length, self.latent = q.shape[-3:-1]

    @property
    def batch_shape(self) -> torch.Size:
        return self.b.shape[:-2]

    def layer(self, index: int, z: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        q, r, r_tilde = (t[..., index, :, :].to(z.dtype) for t in (self.q, self.r, self.r_tilde))
        b = self.b[..., index, :].to(z.dtype)
        slope = 1 + r.diagonal(dim1=-2, dim2=-1) * r_tilde.diagonal(dim1=-2, dim2=-1)
        if inverse:
            t = self._solve_rows(_times(q.mT, z), r, r_tilde, b, slope)
            z = z - _times(q, _times(r, t))
        else:
            t = (_times(r_tilde, _times(q.mT, z)) + b).tanh()
            z = z + _times(q, _times(r, t))
        return z, derivative(t, slope).log().sum(-1)

    @staticmethod
    def _solve_rows(v, r, r_tilde, b, slope):
        """t at the w with w + R t = v."""
        t = w = v[..., :0]  # rows i+1 … M - 1, as they are solved
        for i in reversed(range(v.shape[-1])):
            rest = v[..., i] - (r[..., i, i + 1 :] * t).sum(-1)
            c = b[..., i] + (r_tilde[..., i, i + 1 :] * w).sum(-1)
            t_i = solve(r_tilde[..., i, i] * rest + c, slope[..., i]).unsqueeze(-1)
            t = torch.cat([t_i, t.expand(*t_i.shape[:-1], -1)], -1)
            w = torch.cat([rest.unsqueeze(-1) - r[..., i, i, None] * t_i, w.expand(*t_i.shape[:-1], -1)], -1)
        return t

    def __repr__(self) -> str:
        return f"Sylvester(length={self.length}, rank={self.b.shape[-1]})"


def _times(matrix, vector):
    """A matrix for each image and the vectors of every particle, as one batched product: (*batch, n, m), (..., m)."""
    return torch.einsum("...nm,...m->...n", matrix, vector)


class SylvesterFlow(Flow):
    """h → Sylvester with Q from Householder reflections, or with `shared` one set of parameters for all h.

    Q is the first M columns of Π_m (I - 2 v_m v_mᵀ/‖v_m‖²), m = 1…M: orthonormal for any v. M reflections reach every
    orthonormal Q up to the signs of its columns, which R and R̃ carry. Diagonals are tanh, so r r̃ > -1.
    R starts small, which is near the identity. The rank M is the smaller of `latent` and 16 unless given.

    >>> SylvesterFlow(features=300, latent=40, length=2)(torch.zeros(7, 300))
    Sylvester(length=2, rank=16)
    """

    def __init__(self, features: int, latent: int, length: int = 4, shared: bool = False, rank: int | None = None):
        super().__init__(length, shared)
        m = rank or min(latent, MAX_RANK)
        self.latent, self.rank = latent, m
        shapes = [(length, m, latent), (length, m, m), (length, m, m), (length, m)]
        self.conditioner = Conditioner(features, shapes, scales=[1.0, 0.01, m**-0.5, 0.0], shared=shared)

    def forward(self, h: Tensor | None) -> Sylvester:
        v, r, r_tilde, b = self.conditioner(h)
        v = nn.functional.normalize(v, dim=-1)  # (*batch, length, M, latent)
        # With the v as rows of V, the product of the reflections is I - Vᵀ T V with 1/T = I/2 + triu(V Vᵀ, 1).
        half = 0.5 * torch.eye(self.rank, dtype=v.dtype, device=v.device)
        tv = torch.linalg.solve_triangular(half + (v @ v.mT).triu(1), v[..., : self.rank], upper=True)
        q = torch.eye(self.latent, self.rank, dtype=v.dtype, device=v.device) - v.mT @ tv
        return Sylvester(q, _tanh_diagonal(r), _tanh_diagonal(r_tilde), b)

    def __repr__(self) -> str:
        return f"SylvesterFlow(length={self.length}, rank={self.rank}, {'shared' if self.shared else 'amortised'})"


def _tanh_diagonal(t):
    """Upper triangle of t, its diagonal squashed into (-1, 1), as far from the edge as a planar layer's least slope."""
    diagonal = (1 - MIN_SLOPE) * t.diagonal(dim1=-2, dim2=-1).tanh()
    return t.triu(1) + diagonal.diag_embed()
