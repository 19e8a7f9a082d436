"""The scalar equation behind the inverses of planar and Sylvester layers."""

import torch
from torch import Tensor
from torch.autograd.forward_ad import _set_fwd_grad_enabled, unpack_dual


def solve(v: Tensor, slope: Tensor) -> Tensor:
    """tanh(r) at the root r of r + c·tanh(r) = v, where c = slope - 1 > -1.

    Shapes broadcast. Derivatives of every order are those of the implicit function, forward and backward.
    """
    return _Root.apply(v, slope)


class _Root(torch.autograd.Function):
    """The value by iteration, and dt = (1 - t²) (dv - t dc) / (1 + c (1 - t²)): written in the result t, so that
    autograd can differentiate it again.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(v, slope):
        return _iterate(v, slope)

    @staticmethod
    def setup_context(ctx, inputs, output):
        v, slope = inputs
        ctx.shape = v.shape
        ctx.save_for_backward(output, slope)
        ctx.save_for_forward(output, slope)

    @staticmethod
    def backward(ctx, by_t):
        t, slope = ctx.saved_tensors
        by_v = by_t * _rate(t, slope)
        return by_v.sum_to_size(ctx.shape), (-t * by_v).sum_to_size(slope.shape)

    @staticmethod
    def jvp(ctx, v_tangent, slope_tangent):
        t, slope = (unpack_dual(tensor).primal for tensor in ctx.saved_tensors)
        # torch switches forward mode off in here; without it a second tangent, as in jacfwd(jacfwd(f)), would be zero.
        with _set_fwd_grad_enabled(True):
            return _rate(t, slope) * (v_tangent - t * slope_tangent)


def _rate(t, slope):
    """∂t/∂v."""
    return (1 - t * t) / derivative(t, slope)


def _iterate(v, slope):
    """The root's tanh, to rounding.

    The equation is odd in v, so let a = |v| and look for r ≥ 0.

    1. For c ≥ 0 the left side is concave on r ≥ 0. a - c and a/(1 + c) lie left of the root, and so does the zero of
       any tangent; the one at tanh(r) = a/(1 + c) is close when c is large. Take the largest.
    2. For -1 < c < 0 it is convex. Both of those lie right of the root, and so does the root of
       |c| r³/(3 + 1.2 R²) = a for any R right of it, because r - tanh r ≥ r³/(3 + 1.2 r²). Take the smallest; the third
       is close where c → -1 and a is small.
    3. From there Halley's method reaches the rounding of float32 in two steps for every c from -1 + 1e-6 to 1e5, and
       float64's in two more. A fixed number of steps never waits for the device.
    4. One last Newton step moves t itself, without another tanh.
    """
    a, c, slope32 = v.abs().float(), slope.float() - 1, slope.float()
    far, near = a - c, a / slope32
    t = near.clamp(max=0.9999)
    touched = t.atanh()
    tangent = touched - (touched + c * t - a) / derivative(t, slope32)
    least = torch.minimum(far, near)
    cubic = (a * (3 + 1.2 * least.square()) / (-c).clamp(min=1e-3)).pow(1 / 3)
    left = torch.maximum(torch.maximum(far, near), tangent)
    r = torch.where(c >= 0, left, torch.minimum(least, cubic))
    r = _halley(_halley(r, a, slope32), a, slope32)
    if v.dtype == torch.float64:
        r = _halley(_halley(r.double(), v.abs(), slope), v.abs(), slope)
    r = r.copysign(v)
    t = r.tanh()
    return t + (1 - t * t) * ((v - r - (slope - 1) * t) / derivative(t, slope))


def _halley(r, a, slope):
    """One step towards f(r) = r + c·tanh(r) - a = 0, with f' = 1 + c(1 - t²) and f'' = -2ct(1 - t²)."""
    t = r.tanh()
    f, df, bend = r + (slope - 1) * t - a, derivative(t, slope), (slope - 1) * t * (1 - t * t)
    return r - f * df / (df * df + f * bend)


def derivative(t: Tensor, slope: Tensor) -> Tensor:
    """1 + c(1 - t²) as t² + (1 - t²)·slope, where nothing cancels as c → -1: positive for every float."""
    return t * t + (1 - t * t) * slope
