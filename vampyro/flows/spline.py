"""Neural spline flow: a coupling flow whose elements move along splines."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from vampyro.flows.coupling import Coupling, CouplingFlow

BINS = 8
BOUND = 5.0  # the identity outside [-5, 5], where a posterior seldom is
MINIMUM = 0.02  # of a bin's width and height as fractions of the whole, and of a derivative: keeps float32 exact
OFFSET = math.log(math.expm1(1 - MINIMUM))  # a derivative of 1 at θ = 0
NEWTON_STEPS = 2  # from the closed form


class Spline(Coupling):
    """Monotone rational-quadratic splines for a coupling flow's elements (Durkan et al. 2019, arXiv:1906.04032).

    Between knots (x_k, y_k) with derivatives d_k, with ξ = (x - x_k)/w, w = x_{k+1} - x_k and σ = (y_{k+1} - y_k)/w,

        y = y_k + (y_{k+1} - y_k) (σ ξ² + d_k ξ(1-ξ)) / (σ + (d_k + d_{k+1} - 2σ) ξ(1-ξ)),

    monotone for positive derivatives; backwards ξ is the root of a quadratic. Outside [-5, 5] it is the identity,
    joined with derivative 1; at θ = 0 it is the identity everywhere. An element takes 8 widths, 8 heights and 7
    derivatives.

    A layer's inverse maps back to its point within 4e-5 at any weights; several steep layers need float64, and
    `FlowDistribution` warns under validation where they do.
    """

    numbers = 3 * BINS - 1

    def element(self, b: Tensor, theta: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        widths, heights, derivatives = theta.split([BINS, BINS, BINS - 1], -1)
        x, y = _knots(widths), _knots(heights)
        d = pad(MINIMUM + softplus(derivatives + OFFSET), (1, 1), value=1.0)
        b = b.expand(theta.shape[:-1])
        inside = b.abs() < BOUND
        value = torch.where(inside, b, 0.0)
        k = (value.unsqueeze(-1) >= (y if inverse else x)[..., 1:-1]).sum(-1, keepdim=True)
        left, low, d0 = (t.gather(-1, k).squeeze(-1) for t in (x, y, d))
        right, high, d1 = (t.gather(-1, k + 1).squeeze(-1) for t in (x, y, d))
        width, height = right - left, high - low
        slope = height / width
        bend = d0 + d1 - 2 * slope
        if inverse:
            # The equation above times its denominator is q2 ξ² + q1 ξ = slope·rise; of its root the stable form.
            rise = value - low
            q2, q1 = height * (slope - d0) + rise * bend, height * d0 - rise * bend
            root = 2 * slope * rise / (q1 + (q1.square() + 4 * q2 * slope * rise).sqrt())
            # Its digits cancel in steep bins. The correction is rounding, so the derivatives are the formula's.
            xi = root + _refinement(*(t.detach() for t in (root, rise, height, slope, d0, d1, bend)))
            moved = left + xi * width
        else:
            xi = (value - left) / width
            moved = low + height * _share(xi, slope, d0, bend)
        log_derivative = (
            2 * slope.log()
            + (d1 * xi.square() + 2 * slope * xi * (1 - xi) + d0 * (1 - xi).square()).log()
            - 2 * (slope + bend * xi * (1 - xi)).log()
        )
        return torch.where(inside, moved, b), torch.where(inside, log_derivative, 0.0)


def _share(xi, slope, d0, bend):
    """The fraction of its bin's height that the spline reaches at ξ."""
    return (slope * xi.square() + d0 * xi * (1 - xi)) / (slope + bend * xi * (1 - xi))


def _refinement(root, rise, height, slope, d0, d1, bend):
    """Correction of the root ξ of height·share(ξ) = rise by Newton's method, which keeps ξ in its bin."""
    xi = root
    for _ in range(NEWTON_STEPS):
        rate = slope * (d1 * xi.square() + 2 * slope * xi * (1 - xi) + d0 * (1 - xi).square())
        rate = rate / (slope + bend * xi * (1 - xi)).square()
        xi = (xi + (rise / height - _share(xi, slope, d0, bend)) / rate).clamp(0, 1)
    return xi - root


def _knots(sizes):
    """Bins' unnormalised sizes (..., bins) → their edges (..., bins + 1) from -BOUND to BOUND."""
    fractions = MINIMUM + (1 - MINIMUM * BINS) * sizes.softmax(-1)
    inner = 2 * BOUND * fractions[..., :-1].cumsum(-1) - BOUND
    return pad(pad(inner, (1, 0), value=-BOUND), (0, 1), value=BOUND)


class SplineFlow(CouplingFlow):
    """h → Spline, a coupling flow of rational-quadratic splines with 8 bins on [-5, 5].

    >>> SplineFlow(features=300, latent=40, length=2)(torch.zeros(7, 300))
    Spline(length=2)
    """

    transform = Spline
