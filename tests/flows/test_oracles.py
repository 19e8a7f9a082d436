"""Flows against Pyro's own where Pyro's is right, and against each other."""

import warnings

import pyro.distributions.transforms as pyro_transforms
import pytest
import torch
from pyro.distributions.transforms.radial import ConditionedRadial
from pyro.distributions.transforms.spline import _monotonic_rational_spline
from torch.nn.functional import softplus

from tests.helpers import gap
from vampyro.distributions import DiagonalNormal, FlowDistribution
from vampyro.flows import CouplingFlow, IAFFlow, spline
from vampyro.flows.coupling import Coupling
from vampyro.flows.iaf import IAF, Sequential
from vampyro.flows.planar import MIN_SLOPE, OFFSET, Planar
from vampyro.flows.radial import Radial
from vampyro.flows.spline import BINS, BOUND, MINIMUM, Spline
from vampyro.flows.sylvester import Sylvester

LATENT = 5


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def same(flow, oracle, x):
    y, truth = flow(x), oracle(x)
    assert gap(y, truth) < 1e-12
    assert gap(flow.log_abs_det_jacobian(x, y), oracle.log_abs_det_jacobian(x, truth)) < 1e-12


def nets(flow, layers=1):
    """The flow's networks at random weights and one h: a Perceptron for each layer."""
    flow = flow(features=3, latent=LATENT, length=layers).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return flow(draw(3)).nets


def test_radial_is_pyros():
    """Pyro has β = s - α, and softplus inside."""
    centre, a, s = draw(LATENT), draw(1), draw(1)
    oracle = ConditionedRadial((centre, a, s))
    same(Radial(centre[None], softplus(a), softplus(s)), oracle, draw(50, LATENT))


def test_sylvester_of_rank_one_is_planar():
    """x + q r tanh(r̃ qᵀx + b) has u = q r and w = q r̃; planar's û is u where w·u is, so give it u with w·û = r r̃."""
    q = torch.nn.functional.normalize(draw(LATENT), dim=0)
    r, r_tilde, b = torch.tensor(0.8).double(), torch.tensor(-0.9).double(), draw(1, 1)
    sylvester = Sylvester(q.view(1, LATENT, 1), r.view(1, 1, 1), r_tilde.view(1, 1, 1), b)
    wanted = r * r_tilde  # = softplus(a + log(e - 1)) - 1 but for planar's ε
    a = (wanted + 1 - MIN_SLOPE).expm1().log() - OFFSET
    planar = Planar((a / r_tilde * q)[None], (r_tilde * q)[None], b[0])
    x = draw(50, LATENT)
    same(sylvester, planar, x)
    assert gap(sylvester.inv(x), planar.inv(x)) < 1e-12


def test_coupling_is_pyros():
    (net,) = nets(CouplingFlow)

    def hypernet(a):
        s, t = net(a).unflatten(-1, (-1, 2)).unbind(-1)
        return t, 2 * (s / 2).tanh()

    same(Coupling([net]), pyro_transforms.AffineCoupling(LATENT // 2, hypernet), draw(50, LATENT))


def test_iaf_is_pyros():
    """But for the order of the elements, which ours reverses after each layer."""
    (net,) = nets(IAFFlow)

    def autoregressive(x):
        s, t = net(x).chunk(2, -1)
        return t, 2 * (s / 2).tanh()

    x, oracle = draw(50, LATENT), pyro_transforms.AffineAutoregressive(autoregressive)
    ours, truth = IAF([net]), oracle(x)
    assert gap(ours(x).flip(-1), truth) < 1e-12
    assert gap(ours.log_abs_det_jacobian(x, None), oracle.log_abs_det_jacobian(x, truth)) < 1e-12


@pytest.mark.parametrize("inverse", [False, True])
def test_spline_is_pyros(inverse):
    """Pyro's takes fractions and derivatives where ours takes what softmax and softplus make them of."""
    x, theta = 3 * draw(400), draw(400, Spline.numbers)
    widths, heights, derivatives = theta.split([BINS, BINS, BINS - 1], -1)
    # Pyro's search shifts the knots by eps; at eps = 0 it leaves out no point but an edge itself.
    truth = _monotonic_rational_spline(
        x,
        widths.softmax(-1),
        heights.softmax(-1),
        softplus(derivatives + spline.OFFSET),
        inverse=inverse,
        bound=BOUND,
        min_bin_width=MINIMUM,
        min_bin_height=MINIMUM,
        min_derivative=MINIMUM,
        eps=0.0,
    )
    # Pyro's derivative at the outer knots is 1 - MINIMUM + nothing, not 1: compare in the inner bins.
    edge = (2 * BOUND) * (MINIMUM + (1 - MINIMUM * BINS) * (heights if inverse else widths).softmax(-1))
    inner = (x > edge[:, 0] - BOUND) & (x < BOUND - edge[:, -1])
    assert inner.sum() > 100
    sign = -1 if inverse else 1  # Pyro's is of the direction that was asked
    y, log_derivative = Spline([]).element(x, theta, inverse)
    assert gap(y[inner], truth[0][inner]) < 1e-10
    assert gap(log_derivative[inner], sign * truth[1][inner]) < 1e-10
    outside = x.abs() > BOUND
    assert outside.any() and torch.equal(y[outside], x[outside]) and log_derivative[outside].eq(0).all()


def test_sequentials_gradient_is_that_of_an_inverse_written_element_by_element():
    (net,) = nets(IAFFlow)
    y, c = draw(4, 7, LATENT), net.c.detach().expand(7, -1) + 0.3 * draw(7, len(net.c))
    leaves = [t.detach().clone().requires_grad_() for t in (y, net.w, c, net.u, net.d)]

    def plain(y, w, c, u, d):
        x, log_det = torch.zeros_like(y), 0.0
        for i in range(LATENT):
            s, t = type(net)(w, c, u, d)(x).unflatten(-1, (2, LATENT)).unbind(-2)
            s = 2 * (s / 2).tanh()
            moved = (y - t) * (-s).exp()
            x = torch.where(torch.arange(LATENT) == i, moved, x)
            log_det = log_det + s[..., i]
        return x, log_det

    weight = draw(4, 7, LATENT), draw(4, 7)
    gradients = []
    for inverse in (plain, lambda *leaves: Sequential.apply(*leaves, 4)):
        x, log_det = inverse(*leaves)
        gradients.append(torch.autograd.grad((x * weight[0]).sum() + (log_det * weight[1]).sum(), leaves))
        gradients[-1] += (x.detach(), log_det.detach())
    mask_w, mask_u = net.w != 0, net.u != 0  # the sweep knows of no weight outside the masks
    for number, (truth, ours) in enumerate(zip(*gradients)):
        mask = {1: mask_w, 3: mask_u}.get(number, torch.ones_like(truth, dtype=torch.bool))
        assert gap(ours * mask, truth * mask) < 1e-11


@pytest.mark.parametrize("size", [1.0, 3.0, 8.0])
def test_a_splines_inverse_in_float32_is_as_good_as_float32_can_be(size):
    """The closed form alone is off by 2e-5, 3e-4 and 2e-3; the exact inverse, rounded, by at most 2e-5."""
    theta, y = size * torch.randn(100_000, Spline.numbers), 2 * BOUND * torch.rand(100_000) - BOUND
    element = Spline([]).element
    x, _ = element(y, theta, True)
    assert gap(element(x, theta, False)[0], y) < 4e-5


def large_spline(weight, layers):
    """With shared parameters."""
    flow = spline.SplineFlow(features=0, latent=40, length=layers, shared=True)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=weight)
    return flow(None)


def test_a_spline_layer_with_weights_of_size_one_goes_there_and_back():
    flow, z = large_spline(1.0, 1), torch.randn(500, 40)
    assert gap(flow(flow.inv(z).clone()), z) < 1e-4


def test_a_refined_splines_derivatives_are_those_of_finite_differences():
    """First and second, by y and θ, where the closed form is refined."""
    theta, y = 3 * draw(6, Spline.numbers), 4 * torch.rand(6, dtype=torch.float64) - 2

    def inverse(y, theta):
        return Spline([]).element(y, theta, True)

    leaves = [y.requires_grad_(), theta.requires_grad_()]
    assert torch.autograd.gradcheck(inverse, leaves, eps=1e-6, atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradgradcheck(inverse, leaves, eps=1e-6, atol=1e-5, rtol=1e-4)


def test_a_density_warns_where_float32_does_not_come_back():
    """Four layers with weights of size 1: not even the exact inverse, rounded, maps to z. Only under validation."""
    z, normal = torch.randn(100, 40), DiagonalNormal(torch.zeros(40), torch.ones(40))
    q = FlowDistribution(normal, large_spline(1.0, 4))
    exact = q.transform.inv(z.double()).float().double()
    assert (q.transform.push(exact)[0] - z).abs().max() > 0.1
    components = FlowDistribution(DiagonalNormal(torch.zeros(2, 40), torch.ones(2, 40)), q.transform)
    for log_prob in (q.log_prob, components.pairwise_log_prob):
        with pytest.warns(
            UserWarning, match=r"Spline\(length=4\) is too steep for torch.float32: .* Score z.double\(\)"
        ):
            log_prob(z.clone())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        q.log_prob(z.double())
        q.log_prob(q.rsample((10,)))
        FlowDistribution(normal, large_spline(1.0, 4), validate_args=False).log_prob(z)
        FlowDistribution(normal, large_spline(0.1, 4)).log_prob(z)
        torch.func.grad(lambda z: q.log_prob(z).sum())(z)
