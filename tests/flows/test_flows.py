"""Every flow against autograd's Jacobian, finite differences, grids, and itself run backwards."""

import copy
import gc
import math
import weakref

import pytest
import torch
from torch.autograd import gradcheck
from torch.autograd.functional import jacobian
from torch.func import functional_call

from tests.helpers import build_part, every, gap, grid_error
from vampyro.catalogue import specs
from vampyro.distributions import DiagonalNormal, FlowDistribution
from vampyro.flows.planar import Planar
from vampyro.flows.radial import Radial
from vampyro.flows.root import solve

FEATURES, BATCH = 4, 3
every_flow = pytest.mark.parametrize("spec", [spec for spec in every("flow", 3) if spec != "none"])


@pytest.fixture
def build(trained):
    def flow(spec, latent=3, norm=2.0):
        spec = specs.parse("flow", spec)
        return trained(build_part("flow", spec, FEATURES, latent), norm).double()

    return flow


def features():
    return torch.randn(BATCH, FEATURES, dtype=torch.float64)


def base(latent=3):
    loc = torch.randn(BATCH, latent, dtype=torch.float64)
    return DiagonalNormal(loc, torch.rand(BATCH, latent, dtype=torch.float64) + 0.5)


@every_flow
def test_the_inverse_undoes_the_map_and_the_map_the_inverse(spec, build):
    flow, h = build(spec), features()
    x = 3 * torch.randn(50, BATCH, 3, dtype=torch.float64)
    assert gap(flow(h).inv(flow(h)(x).clone()), x) < 1e-9
    transform = flow(h)
    assert gap(transform(transform.inv(x).clone()), x) < 1e-9


# What the docstrings say that float32 is off: the map, the inverse, the log-determinant.
ROUNDING = {
    "planar": (5e-6, 5e-6, 5e-6),
    "radial": (5e-6, 5e-6, 3e-5),
    "sylvester": (8e-6, 4e-5, 4e-5),
    "iaf": (5e-6, 5e-6, 5e-6),
    "coupling": (5e-6, 5e-6, 5e-6),
    "spline": (1e-5, 3e-5, 5e-5),
}


@every_flow
def test_float32_is_as_exact_as_its_docstring_says(spec, build):
    spec = spec.replace(":3", ":5" if "planar" in spec or "radial" in spec else ":4")
    flow, h, x = build(spec, latent=40), features(), torch.randn(200, BATCH, 40)
    exact, single = flow(h), copy.deepcopy(flow).float()(h.float())
    map_error, inverse_error, log_det_error = (2 * error for error in ROUNDING[spec.split(":")[0]])
    x64, y = x.double(), single(x)
    assert gap(y.double(), exact(x64)) < map_error
    assert gap(single.log_abs_det_jacobian(x, y).double(), exact.log_abs_det_jacobian(x64, None)) < log_det_error
    y = y.detach().clone()
    y64, back = y.double(), single.inv(y)
    assert gap(back.double(), exact.inv(y64)) < inverse_error
    log_det = exact.log_abs_det_jacobian(exact.inv(y64), y64)
    assert gap(single.log_abs_det_jacobian(back, y).double(), log_det) < log_det_error


@every_flow
def test_the_map_depends_on_h_unless_it_is_shared(spec, build):
    flow, x = build(spec), torch.randn(BATCH, 3, dtype=torch.float64)
    shared = "shared" in specs.parse("flow", spec).options
    assert (flow(features()).batch_shape == ()) == shared
    difference = (flow(features())(x) - flow(features())(x)).abs().max()
    assert difference == 0 if shared else difference > 0.1


@every_flow
def test_log_determinant_is_that_of_autograds_jacobian(spec, build):
    flow, h = build(spec), features()
    for x in (2 * torch.randn(10, BATCH, 3, dtype=torch.float64)).unbind():
        full = jacobian(lambda x: flow(h)(x), x)  # (B, D, B, D)
        truth = torch.stack([torch.linalg.slogdet(full[i, :, i]).logabsdet for i in range(BATCH)])
        assert all(full[i, :, j].eq(0).all() for i in range(BATCH) for j in range(BATCH) if i != j)
        transform = flow(h)
        y = transform(x)
        assert gap(transform.log_abs_det_jacobian(x, y), truth) < 1e-9  # right after a forward,
        assert gap(flow(h).log_abs_det_jacobian(x, y), truth) < 1e-9  # on a transform that saw nothing,
        back = transform.inv(y.clone())
        assert gap(transform.log_abs_det_jacobian(back, y), truth) < 1e-9  # right after an inverse,
        transform(torch.randn_like(x))
        assert gap(transform.log_abs_det_jacobian(x, y), truth) < 1e-9  # and after another point


@every_flow
def test_a_graph_goes_when_its_density_does_and_waits_for_no_collector(spec, build):
    flow, h = build(spec), features()
    gc.disable()
    try:
        density = FlowDistribution(base(), flow(h))
        alive = weakref.ref(density.transform)
        density.log_prob(torch.randn(BATCH, 3, dtype=torch.float64)).sum().backward()
        del density
        assert alive() is None
    finally:
        gc.enable()


@every_flow
def test_a_flow_is_of_one_size(spec, build):
    transform = build(spec)(features())
    for way in (transform, transform.inv):
        with pytest.raises(ValueError, match="maps vectors of 3, got 1"):
            way(torch.zeros(BATCH, 1, dtype=torch.float64))


@every_flow
def test_particles_on_the_left_give_the_same_numbers_as_image_by_image(spec, build):
    flow, h = build(spec), features()
    x = torch.randn(5, BATCH, 3, dtype=torch.float64)
    together = flow(h)
    y = together(x)
    for image in range(BATCH):
        alone = flow(h[image])
        own_x, own_y = x[:, image], y[:, image]
        log_det = together.log_abs_det_jacobian(x, y)[:, image]
        assert gap(alone(own_x), own_y) < 1e-12
        assert gap(alone.log_abs_det_jacobian(own_x, own_y), log_det) < 1e-12
        assert gap(alone.inv(own_y.clone()), together.inv(y.clone())[:, image]) < 1e-12


@every_flow
def test_gradient_at_a_point_it_did_not_sample(spec, build):
    """∂ log q(z) by the flow's parameters, h, the base's parameters and z, against finite differences."""
    flow, h, normal = build(spec), features(), base()
    names, parameters = zip(*flow.named_parameters())

    def log_prob(z, h, loc, scale, *parameters):
        transform = functional_call(flow, dict(zip(names, parameters)), (h,))
        return FlowDistribution(DiagonalNormal(loc, scale), transform).log_prob(z)

    z = 1.5 * torch.randn(2, BATCH, 3, dtype=torch.float64)
    inputs = [t.detach().requires_grad_() for t in (z, h, normal.loc, normal.scale, *parameters)]
    # Of flows with networks the Jacobian along random directions, in a hundredth of the time.
    fast = sum(parameter.numel() for parameter in parameters) > 100
    assert gradcheck(log_prob, inputs, eps=1e-5, atol=1e-7, rtol=1e-6, fast_mode=fast)


def gradients(log_prob, flow):
    gradient = torch.autograd.grad(log_prob.sum(), list(flow.parameters()), retain_graph=True)
    return torch.cat([g.flatten() for g in gradient])


@every_flow
def test_its_own_sample_scores_as_any_other_point(spec, build):
    """With the gradient: through the cache or through the inverse, the function is the same."""
    flow = build(spec)
    q = FlowDistribution(base(), flow(features()))
    z = q.rsample((20,))
    copy = z.clone()
    own, other = q.log_prob(z), q.log_prob(copy)
    assert own.shape == (20, BATCH)
    assert gap(own, other) < 1e-9
    assert gap(gradients(own, flow), gradients(other, flow)) < 1e-8


@pytest.mark.parametrize("seen", ["sampled", "scored"])
@every_flow
def test_what_was_done_without_gradient_is_no_answer_with_it(spec, seen, build):
    flow, h, normal = build(spec), features(), base()
    q = FlowDistribution(normal, flow(h))
    with torch.no_grad():
        z = q.sample((20,)) if seen == "sampled" else torch.randn(20, BATCH, 3, dtype=torch.float64)
        q.log_prob(z)
    truth = gradients(FlowDistribution(normal, flow(h)).log_prob(z), flow)
    assert gap(gradients(q.log_prob(z), flow), truth) < 1e-8


@every_flow
def test_a_point_that_is_moved_in_place_is_scored_anew(spec, build):
    """As an optimiser moves a latent, with one distribution built before the loop."""
    q = FlowDistribution(base(), build(spec)(features()))
    z = torch.randn(BATCH, 3, dtype=torch.float64)
    q.log_prob(z)
    z.requires_grad_()
    (by_z,) = torch.autograd.grad(q.log_prob(z).sum(), z)
    assert gap(by_z, torch.autograd.grad(q.log_prob(z * 1).sum(), z)[0]) < 1e-10
    with torch.no_grad():
        z.add_(1.0)
        assert gap(q.log_prob(z), q.log_prob(z.clone())) == 0
    assert gap(q.log_prob(z), q.log_prob(z.clone())) == 0
    x = q.rsample()
    with torch.inference_mode():
        assert q.log_prob(x.detach() + 0).isfinite().all()


@pytest.mark.parametrize("spec", [spec for spec in every("flow", 3) if spec != "none" and "shared" not in spec])
def test_density_integrates_to_one(spec, build, plane):
    flow, h, normal = build(spec, latent=2, norm=0.5), features(), base(latent=2)
    q = FlowDistribution(normal, flow(h))
    corners, _ = plane(-6.5, 6.5, 100)  # of the base: 2e-10 of its mass lies outside
    image = q.transform(normal.loc + normal.scale * corners.unsqueeze(1)).detach().flatten(0, 1)
    z, area = plane(image.min(0).values, image.max(0).values, 500)
    with torch.no_grad():
        total = q.log_prob(z.unsqueeze(1)).exp().sum(0) * area
    assert gap(total, torch.ones(BATCH, dtype=torch.float64)) < grid_error(spec)


@every_flow
def test_expand_keeps_the_density(spec, build):
    q = FlowDistribution(base(), build(spec)(features()))
    wide = q.expand((5, BATCH))
    assert wide.batch_shape == (5, BATCH) and wide.rsample().shape == (5, BATCH, 3)
    z = torch.randn(5, BATCH, 3, dtype=torch.float64)
    assert gap(wide.log_prob(z), q.log_prob(z)) == 0


# Planar alone


def planar(u, w, b, dtype=torch.float64):
    return [torch.tensor(t, dtype=dtype, requires_grad=True) for t in ([u], [w], [b])]


@pytest.mark.parametrize(
    ("u", "w", "dtype"),
    [
        (u, w, dtype)
        for dtype in (torch.float32, torch.float64)
        for u, w in [
            ([1.0, -2.0], [0.0, 0.0]),
            ([0.0, 0.0], [1.0, 2.0]),
            ([0.0, 0.0], [0.0, 0.0]),
            ([1e4, 1e4], [1.0, 2.0]),
            ([1e4, -0.5e4], [1.0, 2.0]),
            ([-4.0, 0.0], [3.5, 0.0]),  # slope 1e-6
            ([-7.0, 0.0], [7.0, 0.0]),
            ([-10.0, 0.0], [10.0, 0.0]),
            ([1e4, -1e4], [1.0, 2.0]),
        ]
    ],
)
def test_planar_is_finite_at_the_edges(u, w, dtype):
    leaves = planar(u, w, 0.0, dtype)
    points = torch.tensor([[0.0, 0.0], [1e-4, 1.0], [-0.5, 2.0], [30.0, -30.0]], dtype=dtype, requires_grad=True)
    forward, backward = Planar(*leaves), Planar(*leaves)
    y = forward(points)
    log_det = forward.log_abs_det_jacobian(points, y)
    z = points * 1.0
    x = backward.inv(z)
    results = [y, log_det, x, backward.log_abs_det_jacobian(x, z)]
    gradient = [torch.autograd.grad(r.sum(), [*leaves, points], retain_graph=True, allow_unused=True) for r in results]
    for value in results + [g for group in gradient for g in group if g is not None]:
        assert value.isfinite().all()


@pytest.mark.parametrize(
    ("w", "dtype", "rounding"),
    [
        (w, dtype, rounding)
        for w in ([2.0, -1.0], [1e-3, 0.0], [1e-6, 1e-6], [0.0, 0.0])
        for dtype, rounding in ((torch.float32, 1e-6), (torch.float64, 1e-14))
    ],
)
def test_planar_with_u_zero_is_the_identity(w, dtype, rounding):
    """Whatever w is: not even its gradient feels it."""
    u, w, b = planar([0.0, 0.0], w, 0.7, dtype)
    transform = Planar(u, w, b)
    x = torch.randn(20, 2, dtype=dtype)
    y = transform(x)
    assert gap(y, x) < rounding
    assert transform.log_abs_det_jacobian(x, y).abs().max() < rounding
    assert torch.autograd.grad(y.sum(), w)[0].abs().max() < 100 * rounding


def equation(dtype=torch.float64):
    """v > 0 across ten orders of magnitude, (1, V), and c + 1 from 1e-6 to 1e4, (C, 1)."""
    ranges = (-8, 2, 201), (-6, 0, 61), (-6, 4, 101)
    v, small, large = (torch.logspace(*r, dtype=torch.float64) for r in ranges)
    return v.to(dtype)[None], torch.cat([small, 1 + large]).to(dtype)[:, None]


def test_solve_leaves_no_residual():
    """With r = v - c t, what is left of r + c tanh r = v is c (tanh r - t)."""
    v, slope = equation()
    c = slope - 1
    t = solve(v, slope)
    assert (c * ((v - c * t).tanh() - t).abs() / (1 + c.abs() + v)).abs().max() < 1e-12


def test_solve_in_float32_finds_the_root_of_float64():
    v, slope = equation(torch.float32)
    error = (solve(v, slope).double() - solve(v.double(), slope.double())).abs()
    assert error.max() < 1e-4
    assert error[slope[:, 0] > 0.1].max() < 2e-6


def test_solve_is_odd():
    v, slope = equation()
    assert torch.equal(solve(-v, slope), -solve(v, slope))
    assert solve(torch.zeros_like(slope), slope).eq(0).all()


def test_solve_has_the_gradient_of_the_implicit_function():
    """From r + c tanh r = v: dt = (1 - t²) (dv - t dc) / (1 + c (1 - t²)); and finite differences say so too."""
    v, slope = (t.contiguous().requires_grad_() for t in torch.broadcast_tensors(*equation()))
    t = solve(v, slope)
    by_v, by_slope = torch.autograd.grad(t.sum(), [v, slope])
    with torch.no_grad():
        bend = 1 - t * t
        rate = bend / (t * t + bend * slope)
    torch.testing.assert_close(by_v, rate, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(by_slope, -rate * t.detach(), rtol=1e-7, atol=1e-12)
    some = torch.tensor([[0.05], [0.4], [1.0], [3.0], [40.0]], dtype=torch.float64, requires_grad=True)
    points = torch.tensor([[-5.0, -0.3, 0.01, 0.7, 2.0, 9.0]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(solve, [points, some], eps=1e-6, atol=1e-7, rtol=1e-6)


def test_planar_at_slope_near_zero_goes_there_and_back():
    """At w·u = -14 a step of 1e-6 near the layer's plane is all that is left of a step of one."""
    leaves = planar([-4.0, 0.0], [3.5, 0.0], 0.0)
    assert math.isclose(
        Planar(*leaves).slope.item(), 1e-6 + math.log1p(math.exp(-14) * math.expm1(1 - 1e-6)), rel_tol=1e-9
    )
    y = torch.linspace(-2, 2, 41, dtype=torch.float64).unsqueeze(-1) * torch.tensor([1.0, 0.5], dtype=torch.float64)
    assert gap(Planar(*leaves)(Planar(*leaves).inv(y).clone()), y) < 1e-12


def test_radials_inverse_has_its_gradient_where_both_forms_of_the_root_meet():
    """At α = 1, s = 2 and ρ = 2: r² + (s - ρ) r - α ρ = 0 gives ∂r/∂ρ = (r + α)/(2r + s - ρ) = (√2 + 1)/(2√2)."""
    one, two = torch.ones(1, dtype=torch.float64), torch.full((1,), 2.0, dtype=torch.float64)
    y = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    radial = Radial(torch.zeros(1, 1, dtype=torch.float64), one, two)
    (slope,) = torch.autograd.grad(radial.inv(y), y)
    assert slope.item() == pytest.approx((2**0.5 + 1) / (2 * 2**0.5), rel=1e-12)
