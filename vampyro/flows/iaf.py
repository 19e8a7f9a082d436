"""Inverse autoregressive flow: each element is moved by a function of the elements before it."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from vampyro.flows.coupling import affine
from vampyro.flows.transform import NetBijection, NetFlow
from vampyro.nets.context import ContextMLP, autoregressive

UNITS = 4  # hidden units for the first d elements, for each d = 0 … latent - 1


def plain(y: Tensor, w: Tensor, c: Tensor, u: Tensor, d: Tensor, units: int) -> tuple[Tensor, Tensor]:
    """The sweep of `Sequential` in operations that autograd knows, to any order. It keeps every step's tensors."""
    latent = y.shape[-1]
    batch = torch.broadcast_shapes(y.shape[:-1], c.shape[:-1])
    y, c, u, d = y.expand(*batch, latent), c.expand(*batch, -1), u.unflatten(0, (2, latent)), d.view(2, latent)
    x, hidden, log_det = y[..., :0], c[..., :0], y.new_zeros(())
    for i in range(latent):
        block, until = slice(i * units, (i + 1) * units), (i + 1) * units
        hidden = torch.cat([hidden, (linear(x.to(w.dtype), w[block, :i]) + c[..., block]).tanh()], -1)
        s, t = linear(hidden, u[:, i, :until], d[:, i]).to(y.dtype).unbind(-1)
        s = 2 * (s / 2).tanh()
        x = torch.cat([x, ((y[..., i] - t) * (-s).exp()).unsqueeze(-1)], -1)
        log_det = log_det + s
    return x, log_det


class Sequential(torch.autograd.Function):
    """y → x with x_i exp(s_i) + t_i = y_i, and Σ_i s_i, where θ = (s, t) = U tanh(W x + c) + d is triangular in x.

    Hidden units are sorted: block i of `units` depends on x_1 … x_{i-1}, and θ_i, θ_{i+1}, … depend on it. So one sweep
    uses each weight once. s is 2 tanh(θ_s/2), as in `affine`.

    The gradient needs no graph of the sweep. For x as the solution of f(x, θ(x)) = y, the cotangent v of y solves
    vᵀ ∂f/∂x = gᵀ, triangular too, so a second sweep runs from the last element to the first:

        v_i = g_i exp(-s_i),   ∂θ_i = (∂Σs - v_i x_i exp(s_i), -v_i),   g += (∂θ/∂x)ᵀ ∂θ

    Memory and multiplications are those of one pass through the network, and of one pass back. A gradient that is
    differentiated again comes from `plain`.

    w, c, u, d are those of a masked `Perceptron`; c (*batch, latent · units) broadcasts with y (..., latent).
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, w: Tensor, c: Tensor, u: Tensor, d: Tensor, units: int) -> tuple[Tensor, Tensor]:
        latent, ctx.shapes = y.shape[-1], (y.shape, c.shape)
        batch, inputs = torch.broadcast_shapes(y.shape[:-1], c.shape[:-1]), (y, w, c, u, d)
        # Elements and units first: their rows are contiguous.
        y = y.expand(*batch, latent).reshape(-1, latent).T.contiguous()
        hidden = c.expand(*batch, -1).reshape(-1, latent * units).T.clone(memory_format=torch.contiguous_format)
        u = u.unflatten(0, (2, latent))
        d = d.view(2, latent, 1)
        x, s = torch.empty_like(y), torch.empty_like(y)
        seen = x if x.dtype == w.dtype else torch.empty_like(x, dtype=w.dtype)
        for i in range(latent):
            block, until = slice(i * units, (i + 1) * units), (i + 1) * units
            if i:
                hidden[block].addmm_(w[block, :i], seen[:i])
            hidden[block].tanh_()
            theta = torch.addmm(d[:, i], u[:, i, :until], hidden[:until]).to(y.dtype)
            s[i] = 2 * (theta[0] / 2).tanh()
            x[i] = (y[i] - theta[1]) * (-s[i]).exp()
            if seen is not x:
                seen[i] = x[i]
        ctx.save_for_backward(x, s, hidden, *inputs)
        ctx.units, ctx.batch = units, batch
        return x.T.reshape(*batch, latent), s.sum(0).reshape(batch)

    @staticmethod
    def backward(ctx: Any, by_x: Tensor, by_log_det: Tensor) -> Any:
        x, s, hidden, *inputs = ctx.saved_tensors
        if torch.is_grad_enabled():
            pullback = torch.func.vjp(partial(plain, units=ctx.units), *inputs)[1]
            return *pullback((by_x, by_log_det)), None
        _, w, _, u, _ = inputs
        latent, points = x.shape
        u = u.unflatten(0, (2, latent))
        by_x = by_x.reshape(points, latent).T.to(w.dtype).clone(memory_format=torch.contiguous_format)
        by_log_det = by_log_det.reshape(points).to(w.dtype)
        x, s = x.to(w.dtype), s.to(w.dtype)
        by_y, by_theta, by_hidden = torch.empty_like(x), x.new_empty(latent, 2, points), torch.empty_like(hidden)
        u_rows = u.transpose(0, 1).contiguous()  # (latent, 2, hidden)
        for i in reversed(range(latent)):
            block = slice(i * ctx.units, (i + 1) * ctx.units)
            by_y[i] = by_x[i] * (-s[i]).exp()
            by_theta[i, 0] = (by_log_det - by_x[i] * x[i]) * (1 - s[i].square() / 4)
            by_theta[i, 1] = -by_y[i]
            own = u_rows[i:, :, block].flatten(0, 1).T @ by_theta[i:].flatten(0, 1)
            by_hidden[block] = own * (1 - hidden[block].square())
            if i:
                by_x[:i].addmm_(w[block, :i].T, by_hidden[block])
        by_w = by_hidden @ x.T
        by_u = by_theta.transpose(0, 1).flatten(0, 1) @ hidden.T
        by_d = by_theta.sum(-1).T.flatten()
        by_y, by_c = (t.T.reshape(*ctx.batch, -1).sum_to_size(shape) for t, shape in zip((by_y, by_hidden), ctx.shapes))
        return by_y, by_w, by_c, by_u, by_d, None


class IAF(NetBijection):
    """x_i → x_i exp(s_i) + t_i, (s_i, t_i) = net_l(x_1 … x_{i-1}), l = 1…L, in reversed order from layer to layer.

    Kingma et al. 2016, arXiv:1606.04934; log |det| = Σ_l Σ_i s_i. The inverse computes the elements one after the
    other, in `latent` small steps that together multiply no more than the map does (`Sequential`).
    """

    def layer(self, index: int, z: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        net = self.nets[index]
        if inverse:  # torch.func can differentiate and vectorise only the plain form
            invert = plain if torch._C._are_functorch_transforms_active() else Sequential.apply
            return invert(z.flip(-1), *net, UNITS)
        s, t = net(z).to(z.dtype).unflatten(-1, (2, z.shape[-1])).unbind(-2)
        z, s = affine(z, s, t)
        return z.flip(-1), s.sum(-1)


class IAFFlow(NetFlow):
    """h → IAF, its networks a function of h; with `shared` one map for all h.

    >>> import torch
    >>> IAFFlow(features=300, latent=40, length=4)(torch.zeros(7, 300))
    IAF(length=4)
    """

    transform = IAF

    def __init__(self, features: int, latent: int, length: int = 4, shared: bool = False):
        masks = autoregressive(latent, 1, UNITS, 1, repeat=2)
        sizes = latent, features, 2 * latent, UNITS * latent
        super().__init__(latent, shared, (ContextMLP(*sizes, shared, masks) for _ in range(length)))
