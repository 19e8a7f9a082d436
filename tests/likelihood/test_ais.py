"""log p(x) by annealed importance sampling, from one side and from both: against models whose log p(x) is known."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from vampyro.models import VAE

from tests.helpers import as_trained, every, pairs
from tests.likelihood.test_importance import SHAPE, linear_gaussian
from vampyro.catalogue.assemble import assemble
from vampyro.distributions import DiagonalNormal
from vampyro.likelihood import AnnealedScore, Bounds, ais, bdmc
from vampyro.likelihood.ais import schedule, with_error
from vampyro.likelihood.hmc import Point, Target, transition
from vampyro.likelihood.joint import Joint


class Quadratic:
    """z → a `Point` where p(z) = N(0, I) and p(x | z) = N(centre; z, diag(scale²)), all in closed form."""

    centre, scale = torch.tensor([1.0, -0.5]).double(), torch.tensor([0.3, 0.8]).double()

    def __call__(self, z):
        off = (z - self.centre) / self.scale
        return Point(z, -0.5 * z.square().sum(-1), -0.5 * off.square().sum(-1), -z, -off / self.scale)

    def tempered(self, beta):
        """Mean and variance of the density ∝ p(z) p(x | z)^β."""
        precision = 1 + beta / self.scale**2
        return beta * self.centre / self.scale**2 / precision, 1 / precision


def moment_errors(point, mean, variance):
    """How many standard errors the first two moments, and the product of both coordinates, are off; (5,)."""
    u = (point.z[:, 0] - mean) / variance.sqrt()
    moments = torch.cat([u, (u.square() - 1) / math.sqrt(2), u.prod(-1, keepdim=True)], -1)
    return moments.mean(0) * math.sqrt(len(u))


def test_a_transition_leaves_the_tempered_density_as_it_is(monkeypatch):
    target, beta = Quadratic(), 0.4
    mean, variance = target.tempered(beta)
    start = target(mean + variance.sqrt() * torch.randn(40_000, 1, 2).double())
    size = torch.tensor([0.8]).double()

    def after(beta, transitions=4):
        point = start
        for _ in range(transitions):
            point, acceptance = transition(target, point, beta, size, leapfrog=3)
        return moment_errors(point, mean, variance), acceptance.mean()

    errors, acceptance = after(beta)
    assert errors.abs().max() < 4 and 0.3 < acceptance < 0.9
    assert after(beta + 0.1)[0].abs().max() > 10  # the test sees another density
    monkeypatch.setattr(torch, "rand_like", torch.zeros_like)  # and what Metropolis' rule is for
    assert after(beta)[0].abs().max() > 10


def test_a_transition_moves_every_part_of_a_point_or_none():
    target = Quadratic()
    start = target(torch.randn(50, 4, 2).double())
    point, acceptance = transition(target, start, 1.0, torch.tensor([0.01, 0.3, 0.6, 100.0]).double(), leapfrog=5)
    for ours, theirs in zip(point, target(point.z)):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    moved = (point.z != start.z).all(-1)
    assert moved[:, 0].all() and not moved[:, 3].any() and 0 < moved[:, 2].sum() < 50
    assert acceptance[:, 0].min() > 0.99 and acceptance[:, 3].max() == 0


EVERY = [
    *({"prior": prior, "flow": flow} for prior, flow in pairs(3)),
    *({"likelihood": likelihood} for likelihood in every("likelihood", 1)),
    {"model": "two-level", "latent": (3, 2)},
]


@pytest.mark.parametrize("options", EVERY, ids=lambda options: " ".join(map(str, options.values())))
def test_a_target_is_the_joint_density_and_its_gradient(options):
    x = torch.rand(4, *SHAPE).round().double()
    model, guide = assemble(**{"latent": 3, "hidden": (20,), "shape": SHAPE, "images": x} | options)
    as_trained(nn.ModuleList([model, guide]).double(), norm=1.0)
    target = Target(model, x)
    z = target.draw(3)
    point = target(z)
    values = dict(zip(target.shapes, z.split([shape.numel() for shape in target.shapes.values()], -1)))
    with torch.no_grad():
        torch.testing.assert_close(point.log_density(1.0), Joint(model)(x, values), rtol=0, atol=1e-6)
    for d in range(z.shape[-1]):
        step = 1e-5 * nn.functional.one_hot(torch.tensor(d), z.shape[-1])
        above, below = target(z + step), target(z - step)
        for part in ("prior", "likelihood"):
            slope = (getattr(above, part) - getattr(below, part)) / 2e-5
            torch.testing.assert_close(getattr(point, f"{part}_gradient")[..., d], slope, rtol=1e-4, atol=1e-4)


def test_the_likelihood_of_a_linear_model_within_its_error():
    model, _, x, exact, _ = linear_gaussian(images=120)
    result = ais(model, x, chains=16, temperatures=80, leapfrog=4)
    errors = (result.log_likelihood - exact) / result.error
    assert result.error.median() < 0.1 and result.error.max() < 0.3
    assert 0.85 < (errors.abs() < 2).double().mean() < 1 and errors.abs().max() < 6
    assert 0.7 < errors.std() < 1.5
    assert abs((result.log_likelihood - exact).mean()) < 4 * result.monte_carlo_error
    assert 0.5 < result.acceptance.median() < 0.8
    assert result.ess.min() > 8 and result.ess.max() <= 16


@pytest.mark.parametrize("temperatures", [1, 2, 5])
def test_weights_are_unbiased_at_any_number_of_temperatures(temperatures):
    model, _, x, exact, _ = linear_gaussian(images=4)
    result = ais(model, x, chains=20_000, temperatures=temperatures, leapfrog=3, step_size=0.5, rows=100_000)
    ratio = (result.log_likelihood - exact).exp()
    assert ((ratio - 1).abs() < 4 * result.error).all()
    assert result.error.max() < 0.2


def linear_bounds(**options):
    """(`Bounds`, the images' exact log p(x))."""
    model, _, _, _, _ = linear_gaussian()
    bounds = bdmc(model, **options)
    w, b, s = model.decoder.matrix, model.decoder.bias, model.decoder.scale
    marginal = torch.distributions.MultivariateNormal(b, w @ w.T + s**2 * torch.eye(len(w)).double())
    return bounds, marginal.log_prob(bounds.images.flatten(1))


def test_bounds_hold_from_both_sides_and_close():
    gaps = []
    for temperatures in (3, 30, 150):
        bounds, exact = linear_bounds(images=150, chains=4, temperatures=temperatures, leapfrog=4)
        below, above = exact - bounds.lower, bounds.upper - exact
        for off in (below, above):
            assert off.mean() > -4 * off.std() / math.sqrt(len(off))
        gaps.append(bounds.gap.mean().item())
        torch.testing.assert_close(bounds.gap, below + above)
        if temperatures == 3:  # too few: both bounds are far off, each to its own side
            assert below.mean() > 0.3 and above.mean() > 0.3
    assert gaps[0] > 4 * gaps[1] > 0.2 and abs(gaps[2]) < 0.08


def test_weights_on_the_way_back_estimate_one_over_the_likelihood():
    bounds, exact = linear_bounds(images=1500, chains=1, temperatures=50, leapfrog=3, rows=10_000)
    ratio = (exact - bounds.upper).exp()  # E[v] p(x), over images too
    error = ratio.std() / math.sqrt(len(ratio))
    assert abs(ratio.mean() - 1) < 4 * error and error < 0.05
    assert ratio.log().std() > 0.1  # a test of an average, not of each


def matrices():
    """A: z2 → z1, B: z1 → x, C: z2 → x."""
    draws = torch.Generator().manual_seed(1)
    a, b, c = (torch.randn(*shape, generator=draws).double() for shape in [(3, 2), (12, 3), (12, 2)])
    return a, b / 2, c / 2


def two_level(x=None, *, batch=1):
    """Linear and Gaussian throughout; z2 (2), z1 (3)."""
    a, b, c = matrices()
    with pyro.plate("images", batch if x is None else len(x)):
        z2 = pyro.sample("z2", DiagonalNormal(torch.zeros(2).double(), torch.ones(2).double()))
        z1 = pyro.sample("z1", DiagonalNormal(z2 @ a.T, torch.full((3,), 0.7).double()))
        loc = (z1 @ b.T + z2 @ c.T).unflatten(-1, SHAPE)
        return pyro.sample("x", dist.Normal(loc, 1.0).to_event(3), obs=x)


def test_two_levels_of_latents():
    a, b, c = matrices()
    from_z2 = b @ a + c
    covariance = from_z2 @ from_z2.T + 0.49 * b @ b.T + torch.eye(12).double()
    bounds = bdmc(two_level, images=60, chains=8, temperatures=60, leapfrog=4)
    x = bounds.images
    exact = torch.distributions.MultivariateNormal(torch.zeros(12).double(), covariance).log_prob(x.flatten(1))
    result = ais(two_level, x, chains=16, temperatures=60, leapfrog=4, seed=1)
    errors = (result.log_likelihood - exact) / result.error
    assert result.error.median() < 0.25
    assert abs(errors.mean()) < 0.6 and 0.6 < errors.std() < 1.6
    for off in (exact - bounds.lower, bounds.upper - exact):
        assert off.mean() > -4 * off.std() / math.sqrt(len(off))
    assert bounds.gap.mean() < 0.3


@pytest.mark.parametrize("flow", ["none", "planar:2"])
def test_a_vampprior_in_the_plane_against_a_grid(flow, plane):
    x = torch.rand(4, *SHAPE).round().double()
    model, guide = assemble(prior="vamp:3", flow=flow, hidden=(20,), latent=2, shape=SHAPE)
    as_trained(nn.ModuleList([model, guide]).double(), norm=1.0)
    points, area = plane(-12.0, 12.0, 400)
    with torch.no_grad():
        prior = model.prior().log_prob(points)
        assert prior.logsumexp(0) + area.log() == pytest.approx(0, abs=1e-3)
        likelihood = model.decoder(points.unsqueeze(1)).log_prob(x)
        exact = (prior.unsqueeze(-1) + likelihood).logsumexp(0) + area.log()
    result = ais(model, x, chains=100, temperatures=60, leapfrog=5)
    assert ((result.log_likelihood - exact).abs() < 4 * result.error).all()
    assert result.error.max() < 0.1
    assert all(parameter.requires_grad for parameter in [*model.parameters(), *guide.parameters()])


def positive(x):
    with pyro.plate("images", len(x)):
        z = pyro.sample("z", dist.Gamma(torch.tensor(2.5).double(), 1.5))
        pyro.sample("x", dist.Exponential(z.unsqueeze(-1).expand(*z.shape, 4)).to_event(1), obs=x)


def below_another(x):
    """z1 ~ Uniform(0, z2), z2 ~ Gamma(2, 1), so that z1 ~ Gamma(1, 1)."""
    with pyro.plate("images", len(x)):
        z2 = pyro.sample("z2", dist.Gamma(torch.tensor(2.0).double(), 1.0))
        z1 = pyro.sample("z1", dist.Uniform(torch.zeros_like(z2), z2))
        pyro.sample("x", dist.Exponential(z1.unsqueeze(-1).expand(*z1.shape, 4)).to_event(1), obs=x)


@pytest.mark.parametrize(("program", "shape", "rate"), [(positive, 2.5, 1.5), (below_another, 1.0, 1.0)])
def test_latents_of_bounded_support(program, shape, rate):
    """z ~ Gamma(a, b), four draws from Exponential(z): p(x) = Γ(a + 4)/Γ(a) b^a (b + Σx)^-(a + 4)."""
    x = torch.distributions.Exponential(torch.tensor([0.3, 1.0, 3.0, 9.0]).double()).sample((4,)).T
    exact = (
        math.lgamma(shape + 4) - math.lgamma(shape) + shape * math.log(rate) - (shape + 4) * (rate + x.sum(-1)).log()
    )
    result = ais(program, x, chains=100, temperatures=60, leapfrog=5)
    assert ((result.log_likelihood - exact).abs() < 4 * result.error).all()
    assert result.error.max() < 0.1


def test_a_latent_on_the_simplex():
    concentration = torch.tensor([0.8, 2.0, 3.0]).double()

    def program(x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Dirichlet(concentration))
            pyro.sample("x", dist.Multinomial(12, z, validate_args=False), obs=x)

    x = torch.tensor([[12.0, 0, 0], [4, 4, 4], [0, 3, 9]]).double()
    result = ais(program, x, chains=100, temperatures=100, leapfrog=5)
    exact = dist.DirichletMultinomial(concentration, 12).log_prob(x)
    assert ((result.log_likelihood - exact).abs() < 4 * result.error).all()
    assert result.error.max() < 0.1


class Counts(nn.Module):
    def forward(self):
        return dist.Poisson(torch.full((2,), 0.5)).to_event(1)


def mixed(x):
    with pyro.plate("images", len(x)):
        y = pyro.sample("y", dist.Bernoulli(0.5))
        z = pyro.sample("z", dist.Normal(y, 1.0))
        pyro.sample("x", dist.Normal(z[..., None, None, None] + torch.zeros(SHAPE), 1.0).to_event(3), obs=x)


class Pixels(nn.Module):
    def forward(self, z):
        return dist.Normal(z.sum(-1)[..., None, None, None].expand(*z.shape[:-1], *SHAPE), 1.0).to_event(3)


def shared_latent(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("images", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0).expand([len(x), *SHAPE]).to_event(3), obs=x)


def without_latents(x):
    with pyro.plate("images", len(x)):
        pyro.sample("x", dist.Normal(torch.zeros(SHAPE), 1.0).to_event(3), obs=x)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (VAE(Counts(), Pixels()), "'z' is discrete .Independent. and unbounded"),
        (mixed, "'y' is discrete .Bernoulli. and unbounded, or other latents are continuous"),
        (shared_latent, "each image's own, and the site 'z'"),
        (without_latents, "no latent"),
    ],
)
def test_latents_without_a_gradient_or_an_image_are_refused(program, message):
    with pytest.raises(ValueError, match=message):
        ais(program, torch.zeros(3, *SHAPE), chains=2, temperatures=3)


@pytest.mark.parametrize("wrong", ["chains", "temperatures", "leapfrog"])
def test_too_few_of_anything_are_refused(wrong):
    model, _, x, *_ = linear_gaussian()
    with pytest.raises(ValueError, match=f"{wrong} is 0, expected at least 1"):
        ais(model, x, **{wrong: 0})
    with pytest.raises(ValueError, match="at least one image"):
        ais(model, x[:0])
    with pytest.raises(ValueError, match=f"{wrong} is -1, expected at least 1"):
        bdmc(model, **{wrong: -1})


@pytest.mark.parametrize("step_size", [1e-3, 30.0])
def test_the_step_size_finds_its_acceptance_rate_from_far_off(step_size):
    model, _, x, *_ = linear_gaussian(images=3)
    result = ais(model, torch.cat([x, 9 * x]), chains=30, temperatures=150, leapfrog=3, step_size=step_size)
    assert 0.5 < result.acceptance.min() and result.acceptance.max() < 0.8
    fixed = ais(model, x, chains=4, temperatures=30, leapfrog=3, step_size=step_size, scouts=0)
    assert ((fixed.acceptance > 0.99) if step_size < 1 else (fixed.acceptance == 0)).all()


def test_the_same_seed_anneals_the_same_and_leaves_everything_as_it_was():
    model, _, x, *_ = linear_gaussian()
    weight = nn.Parameter(model.decoder.matrix)
    del model.decoder.matrix
    model.decoder.matrix = weight
    options = {"chains": 3, "temperatures": 5, "leapfrog": 2}
    before = torch.get_rng_state()
    first, bounds = ais(model, x, seed=3, **options), bdmc(model, images=4, seed=3, **options)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training and weight.requires_grad and weight.grad is None and torch.is_grad_enabled()
    torch.rand(5)
    assert torch.equal(ais(model, x, seed=3, **options).log_likelihood, first.log_likelihood)
    assert not torch.equal(ais(model, x, seed=4, **options).log_likelihood, first.log_likelihood)
    again = bdmc(model, images=4, seed=3, **options)
    assert torch.equal(again.lower, bounds.lower) and torch.equal(again.upper, bounds.upper)
    assert not torch.equal(bdmc(model, images=4, seed=4, **options).images, bounds.images)


@pytest.mark.parametrize(("rows", "blocks"), [(1, 5), (12, 3), (100, 1)])
def test_images_go_in_blocks_of_so_many_rows(rows, blocks):
    model, _, x, exact, _ = linear_gaussian()
    loops = []
    options = {"chains": 4, "scouts": 2, "temperatures": 20, "leapfrog": 3, "rows": rows}
    result = ais(model, x, progress=lambda loop: loops.append(len(loop)) or loop, **options)
    assert loops == [20] * blocks
    assert ((result.log_likelihood - exact).abs() < 3).all()  # in the images' own order
    assert exact.std() > 1
    bdmc(model, images=5, progress=lambda loop: loops.append(len(loop)) or loop, **options)
    assert loops == [20] * 3 * blocks


def test_error_and_effective_sample_size_are_the_weights_own():
    w = torch.rand(20, 3).double() + torch.tensor([0.01, 1.0, 30.0]).double()
    offset = torch.tensor([0.0, -2000.0, 2000.0]).double()
    log_likelihood, error, ess = with_error(w.log() + offset)
    torch.testing.assert_close(log_likelihood, w.mean(0).log() + offset)
    torch.testing.assert_close(error, w.std(0) / math.sqrt(20) / w.mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(ess, w.sum(0) ** 2 / w.square().sum(0))
    assert with_error(w[:1].log())[1].isnan().all()


@pytest.mark.parametrize("temperatures", [1, 2, 9, 1000])
def test_the_schedule_rises_from_the_prior_to_the_posterior(temperatures):
    betas = torch.tensor(schedule(temperatures)).double()
    assert len(betas) == temperatures + 1 and betas[0] == 0 and betas[-1] == 1
    assert (betas.diff() > 0).all()
    torch.testing.assert_close(betas + betas.flip(0), torch.ones_like(betas))


def test_summary_and_repr():
    values, error = torch.tensor([-90.0, -80.0]).double(), torch.tensor([0.3, 0.4]).double()
    result = AnnealedScore(values, error, torch.tensor([3.0, 5.0]), torch.tensor([0.6, 0.7]), 8, 50)
    assert result.summary() == {
        "log_likelihood": pytest.approx(-85.0),
        "standard_error": pytest.approx(5.0),
        "monte_carlo_error": pytest.approx(0.25),
        "chains": 8,
        "temperatures": 50,
        "images": 2,
        "ess_median": pytest.approx(3.0),
        "acceptance": pytest.approx(0.65),
    }
    assert "-85.00 ± 5.00" in repr(result) and "0.25" in repr(result)
    bounds = Bounds(values, values + torch.tensor([0.5, 0.1]), error, error, torch.zeros(2, 1), 8, 50)
    assert bounds.summary() == {
        "lower": pytest.approx(-85.0),
        "upper": pytest.approx(-84.7),
        "gap": pytest.approx(0.3),
        "gap_standard_error": pytest.approx(0.2),
        "gap_max": pytest.approx(0.5),
        "chains": 8,
        "temperatures": 50,
        "images": 2,
    }
    assert "-85.00 ≤ log p(x) ≤ -84.70" in repr(bounds) and "0.300 ± 0.200" in repr(bounds)
    single = ais(linear_gaussian()[0], linear_gaussian()[2][:1], chains=1, temperatures=1).summary()
    assert single["standard_error"] is single["monte_carlo_error"] is single["acceptance"] is None
