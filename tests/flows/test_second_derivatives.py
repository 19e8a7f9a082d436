"""Second and third derivatives of densities, and torch.func's transforms, against an inverse by Newton's method."""

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoLaplaceApproximation
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from tests.helpers import build_part, every, gap
from vampyro.catalogue import specs
from vampyro.catalogue.assemble import assemble
from vampyro.distributions import DiagonalNormal, FlowDistribution, Mixture
from vampyro.flows.root import solve

FEATURES, LATENT = 4, 3
FLOWS = [spec for spec in every("flow", 2) if spec != "none"]
every_flow = pytest.mark.parametrize("spec", FLOWS)


@pytest.fixture
def build(trained):
    def flow(spec, norm=2.0):
        spec = specs.parse("flow", spec)
        return trained(build_part("flow", spec, FEATURES, LATENT), norm).double()

    return flow


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def normal(*batch):
    return DiagonalNormal(draw(*batch, LATENT), torch.rand(*batch, LATENT, dtype=torch.float64) + 0.5)


def naive_log_prob(base, transform, z):
    """log q(z) for one z, its inverse three steps of Newton's method that autograd sees: right to the seventh order."""

    def push(x):
        return transform.push(x)[0]

    x = transform.inv(z).detach()
    for _ in range(3):
        x = x - torch.linalg.solve(jacrev(push)(x), push(x) - z)
    return base.log_prob(x) - transform.push(x)[1]


def derivatives(f, x):
    """By autograd: the Hessian, and along one direction the third derivative of it all."""

    def gradient(x):
        return torch.autograd.grad(f(x), x, create_graph=True)[0]

    x = x.detach().requires_grad_()
    second = torch.stack([torch.autograd.grad(g, x, create_graph=True)[0].flatten() for g in gradient(x).flatten()])
    along = torch.linspace(-1, 1, len(second), dtype=x.dtype)
    (third,) = torch.autograd.grad(along @ second @ along, x)
    return second.detach(), third


def same(ours, truth):
    for one, other in zip(ours, truth):
        assert gap(one, other) < 1e-8 * max(1, other.abs().max().item())
        assert other.abs().max() > 0.1  # there is something to see


# The scalar equation of planar and Sylvester layers


def equation():
    slope = torch.tensor([[0.05], [0.4], [1.0], [3.0], [40.0]], dtype=torch.float64, requires_grad=True)
    v = torch.tensor([[-5.0, -0.3, 0.01, 0.7, 2.0, 9.0]], dtype=torch.float64, requires_grad=True)
    return v, slope


def test_solve_has_derivatives_of_every_order_in_every_mode():
    v, slope = equation()
    assert gradcheck(solve, [v, slope], check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(solve, [v, slope], check_fwd_over_rev=True)

    def gradients(v, slope):
        return torch.autograd.grad(solve(v, slope).sum(), [v, slope], create_graph=True)

    assert gradgradcheck(gradients, [v, slope])


def test_solve_forward_over_forward_is_backward_over_backward():
    v, slope = (t.detach() for t in equation())

    def total(v, slope):
        return solve(v, slope).sum()

    both = (0, 1)
    truth = jacrev(jacrev(total, both), both)(v, slope)
    for outer, inner in ((jacfwd, jacfwd), (jacfwd, jacrev), (jacrev, jacfwd)):
        for row, expected in zip(outer(inner(total, both), both)(v, slope), truth):
            for block, wanted in zip(row, expected):
                torch.testing.assert_close(block, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dims", [(0, None), (None, 0), (0, 0), (1, 0)])
def test_solve_under_vmap_is_solve_for_each(dims):
    v, slope = draw(2, 2, 3), torch.rand(2, 1, dtype=torch.float64)
    together = vmap(solve, dims)(v, slope)
    for i in range(2):
        one = [t if dim is None else t.select(dim, i) for t, dim in zip((v, slope), dims)]
        assert torch.equal(together[i], solve(*one))


# Flows and their mixtures


@every_flow
def test_a_flows_density_has_the_second_and_third_derivatives_of_a_naive_inverse(spec, build):
    flow, base, h, z = build(spec), normal(), draw(FEATURES), draw(LATENT)
    ours = derivatives(lambda z: FlowDistribution(base, flow(h)).log_prob(z), z)
    same(ours, derivatives(lambda z: naive_log_prob(base, flow(h), z), z))


@every_flow
def test_a_mixture_of_flows_has_the_second_and_third_derivatives_of_a_naive_inverse(spec, build):
    flow, base, h, z = build(spec), normal(4), draw(4, FEATURES), draw(LATENT)

    def naive(z):
        components = [
            naive_log_prob(base.select(k), flow(h).select(k, torch.float64), z)  # one map for all is its own selection
            for k in range(4)
        ]
        return torch.stack(components).logsumexp(0)

    ours = derivatives(lambda z: Mixture(FlowDistribution(base, flow(h))).log_prob(z), z)
    same(ours, derivatives(naive, z))


@pytest.mark.parametrize("flow", ["planar:2", "sylvester:2", "iaf:2"])
def test_the_hessian_of_a_vampprior_is_that_of_finite_differences(flow, trained):
    model, guide = assemble(prior="vamp:4", flow=flow, hidden=(8,), latent=LATENT, shape=(1, 4, 4))
    trained(guide), trained(model)
    model.double(), guide.double()

    def gradient(z):
        return torch.autograd.grad(model.prior().log_prob(z), z)[0]

    z, step = draw(LATENT), 1e-5 * torch.eye(LATENT, dtype=torch.float64)
    second, _ = derivatives(lambda z: model.prior().log_prob(z), z)
    forth, back = (torch.stack([gradient((z + sign * e).requires_grad_()) for e in step]) for sign in (1, -1))
    assert gap(second, (forth - back) / 2e-5) < 1e-7 * max(1, second.abs().max().item())


@every_flow
def test_second_derivatives_of_what_a_flow_is_computed_from(spec, build):
    """By h, and by all parameters along one direction; central differences of the gradient."""
    flow, base, h, z = build(spec), normal(), draw(FEATURES), draw(LATENT)
    names, parameters = zip(*flow.named_parameters())
    directions = [draw(*t.shape) for t in (h, *parameters)]

    def gradients(step, **options):
        leaves = [(t + step * d).detach().requires_grad_() for t, d in zip((h, *parameters), directions)]
        transform = functional_call(flow, dict(zip(names, leaves[1:])), (leaves[0],))
        log_prob = FlowDistribution(base, transform).log_prob(z)
        return leaves, torch.autograd.grad(log_prob, leaves, allow_unused=True, materialize_grads=True, **options)

    leaves, first = gradients(0.0, create_graph=True)
    along = sum((g * d).sum() for g, d in zip(first, directions))
    second = torch.autograd.grad(along, leaves, allow_unused=True, materialize_grads=True)
    for ours, forth, back in zip(second, gradients(1e-5)[1], gradients(-1e-5)[1]):
        assert gap(ours, (forth - back) / 2e-5) < 1e-6 * max(1, ours.abs().max().item())


@every_flow
@pyro.validation_enabled(False)  # older versions of torch cannot validate inside vmap
def test_torch_func_differentiates_and_vectorises_map_and_inverse(spec, build):
    flow, base, h, z = build(spec), normal(), draw(5, FEATURES), draw(5, LATENT)
    parameters = dict(flow.named_parameters())

    def transform(h, parameters=parameters):
        return functional_call(flow, parameters, (h,))

    def inverse(z, h, parameters=parameters):
        return FlowDistribution(base, transform(h, parameters)).log_prob(z)

    def forward(x, h):
        there = transform(h)
        return there(x).square().sum() + there.log_abs_det_jacobian(x, None)

    for f in (inverse, forward):
        one_by_one = torch.stack([f(*pair) for pair in zip(z, h)])
        assert gap(vmap(f)(z, h), one_by_one) < 1e-10
        truth = torch.stack([derivatives(lambda z: f(z, each), point)[0] for point, each in zip(z, h)])
        for twice in (hessian(f), jacrev(jacrev(f)), jacrev(jacfwd(f)), jacfwd(jacfwd(f))):
            assert gap(vmap(twice)(z, h), truth) < 1e-8
        _, tangent = jvp(lambda z: f(z, h[0]), (z[0],), (z[1],))
        assert gap(tangent, grad(f)(z[0], h[0]) @ z[1]) < 1e-10
    each = vmap(grad(inverse, argnums=2), (0, 0, None))(z, h, parameters)
    total = torch.autograd.grad(vmap(inverse)(z, h).sum(), list(parameters.values()))
    for ours, truth in zip(each.values(), total):
        assert gap(ours.sum(0), truth) < 1e-10
    several = {name: torch.stack([p, 0.9 * p]).detach() for name, p in parameters.items()}
    second = inverse(z[0], h[0], {name: p[1] for name, p in several.items()})
    assert gap(vmap(inverse, (None, None, 0))(z[0], h[0], several)[1], second) < 1e-10


@pytest.mark.parametrize("prior", ["planar:2", "sylvester:2", "iaf:2", "spline:2", "vamp:4"])
def test_laplaces_approximation_has_the_inverse_of_the_exact_hessian(prior, trained):
    """Around the mode of p(z) N(x; z, ½), whose Hessian central differences of the gradient give."""
    flow = "iaf:2" if prior == "vamp:4" else "none"
    vae, guide = assemble(prior=prior, flow=flow, hidden=(8,), latent=2, shape=(1, 4, 4))
    trained(vae.prior, norm=1.0), trained(guide, norm=1.0)
    vae.double(), guide.double()
    x = torch.tensor([0.5, -1.0], dtype=torch.float64)

    def program():
        z = pyro.sample("z", vae.prior())
        pyro.sample("x", DiagonalNormal(z, torch.full_like(z, 0.5**0.5)), obs=x)

    laplace = AutoLaplaceApproximation(program, init_loc_fn=lambda site: torch.zeros(2, dtype=torch.float64))
    svi = SVI(program, laplace, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(100):
        svi.step()
    mode = laplace.loc.detach().clone()

    def gradient(z):
        z = z.detach().requires_grad_()
        joint = vae.prior().log_prob(z) - (x - z).square().sum()
        return torch.autograd.grad(joint, z)[0]

    step = 1e-5 * torch.eye(2, dtype=torch.float64)
    exact = torch.stack([(gradient(mode + e) - gradient(mode - e)) / 2e-5 for e in step])
    covariance = laplace.laplace_approximation().get_posterior().covariance_matrix
    torch.testing.assert_close(covariance, torch.linalg.inv(-exact), rtol=1e-4, atol=1e-6)


# The cache


@every_flow
def test_with_cache_0_computes_the_same_and_keeps_nothing(spec, build):
    transform, x = build(spec)(draw(FEATURES)), draw(5, LATENT)
    y = transform(x)
    plain = transform.with_cache(0)
    assert gap(plain(x), y) == 0 and gap(plain.inv(y), transform.inv(y.clone())) == 0
    assert gap(plain.log_abs_det_jacobian(x, y), transform.log_abs_det_jacobian(x, y)) < 1e-12
    assert plain._log_det is None and plain._cached_x_y == (None, None)
    assert plain.with_cache(0) is plain and plain.inv.with_cache(1).inv._cache_size == 1
    assert transform.with_cache() is transform
    composed = torch.distributions.ComposeTransform([plain], cache_size=1)  # which asks its parts for a cache
    assert composed.parts[0]._cache_size == 1 and gap(composed(x), y) == 0
    with pytest.raises(ValueError, match="cache_size is 2"):
        transform.with_cache(2)
