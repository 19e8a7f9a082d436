"""Amortisation and approximation gaps against exact posteriors; offsets that touch the guide and nothing else."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from vampyro.guides import Guide
from vampyro.models import VAE
from vampyro.priors import StandardNormal, VampPrior

from tests.helpers import as_trained, every
from tests.likelihood.test_importance import PIXELS, SHAPE, LinearNormal
from vampyro.catalogue.assemble import assemble
from vampyro.diagnostics import LocalGuide, gaps
from vampyro.diagnostics.gaps import _gaps
from vampyro.diagnostics.local_guide import _outputs_changed, free_parameters, shift
from vampyro.likelihood.joint import Joint
from vampyro.nets import NormalHead

each_flow = pytest.mark.parametrize("flow", every("flow", 2))


def programs(prior="standard", flow="none", model="vae", images=5):
    torch.manual_seed(0)
    x = torch.rand(images, *SHAPE).round()
    model, guide = assemble(model=model, prior=prior, flow=flow, hidden=(20,), latent=3, shape=SHAPE)
    as_trained(nn.ModuleList([model, guide]), norm=1.0)
    return model, guide, x


def linear(correlated, images=6):
    """(model, guide, x, exact log p(x), posterior's means, its precision Λ): x ~ N(Wz + b, s²), WᵀW = s² (Λ - I).

    Weights from the best diagonal q have a variance where the correlation is below ½; here it is 0.45.
    """
    torch.manual_seed(0)
    precision = torch.tensor([[4.0, 1.35], [1.35, 2.25]] if correlated else [[5.0, 0.0], [0.0, 2.0]]).double()
    b, s = torch.randn(PIXELS).double(), 0.7
    w = torch.linalg.qr(torch.randn(PIXELS, 2).double())[0] @ torch.linalg.cholesky(precision - torch.eye(2)).T * s
    x = torch.randn(images, 2).double() @ w.T + b + s * torch.randn(images, PIXELS).double()
    exact = torch.distributions.MultivariateNormal(b, w @ w.T + s**2 * torch.eye(PIXELS).double()).log_prob(x)
    means = (x - b) @ w @ precision.inverse() / s**2
    guide = Guide(nn.Flatten(-3), NormalHead(PIXELS, 2)).double()
    model = VAE(StandardNormal(2).double(), LinearNormal(w, b, s))
    return model, guide, x.unflatten(-1, SHAPE), exact, means, precision


@pytest.mark.parametrize("correlated", [False, True])
def test_gaps_of_a_linear_model_are_exact(correlated):
    """The best diagonal q has the posterior's mean and variances 1/Λ_dd; its gap is ½ (Σ log Λ_dd - log |Λ|)."""
    model, guide, x, exact, means, precision = linear(correlated)
    result = gaps(model, guide, x, samples=4000, steps=400, lr=0.03)
    family = 0.5 * (precision.diagonal().log().sum() - precision.logdet()).item()
    assert (family > 0.1) == correlated
    q = guide.q(x)
    offset = q.loc - means
    whole = 0.5 * ((q.scale**2) @ precision.diagonal() + ((offset @ precision) * offset).sum(-1) - 2)
    whole = (whole - q.scale.log().sum(-1) - 0.5 * precision.logdet()).detach()  # KL(q ‖ p(z | x))
    assert whole.min() > 0.5
    for estimate, truth in [
        (result.log_likelihood, exact),
        (result.amortised, exact - whole),
        (result.optimised, exact - family),
        (result.approximation, torch.full((6,), family).double()),
        (result.amortisation, whole - family),
    ]:
        assert ((estimate.values - truth).abs() < 4.5 * estimate.errors + 0.01).all()
        assert estimate.errors.max() < (0.6 if estimate in (result.amortised, result.amortisation) else 0.05)
    if not correlated:
        assert result.approximation.values.abs().max() < 0.02 and result.ess.min() > 0.95 * 4000


def test_errors_of_estimates_from_weights_are_those_of_their_draws():
    torch.manual_seed(0)
    runs = [_gaps(torch.randn(400, 3).double() - 5, 0.8 * torch.randn(400, 3).double() - 2) for _ in range(300)]
    truths = [-2 + 0.32, -2, -5, 0.32, 3]  # log E[exp N(m, σ²)] = m + σ²/2
    for place, truth in enumerate(truths):
        values = torch.stack([run[place].values for run in runs])
        errors = torch.stack([run[place].errors for run in runs])
        assert values.std().item() == pytest.approx(errors.square().mean().sqrt().item(), rel=0.1)
        assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(values.numel()) + 0.003  # and Jensen's bias


@each_flow
def test_without_offsets_it_is_the_guide(flow):
    _, guide, x = programs(flow=flow)
    local, shared = LocalGuide(guide, x), flow.endswith("shared") or flow == "none"
    pyro.set_rng_seed(1)
    ours = poutine.trace(local).get_trace(x).nodes["z"]
    pyro.set_rng_seed(1)
    theirs = poutine.trace(guide).get_trace(x).nodes["z"]
    assert torch.equal(ours["value"], theirs["value"])
    assert all(len(offset) == len(x) for offset in local.offsets)
    assert (len(local.offsets) == 1) == shared
    assert local.offsets[0].shape == (5, 6)


@each_flow
def test_offsets_belong_to_their_image_and_move_all_of_its_posterior(flow):
    _, guide, x = programs(flow=flow)
    local, z = LocalGuide(guide, x), torch.randn(5, 3)

    def log_prob():
        return poutine.trace(local).get_trace(x).nodes["z"]["fn"].log_prob(z)

    gradients = torch.autograd.grad(log_prob()[2], local.offsets)
    for gradient in gradients:
        assert gradient[2].abs().max() > 0
        assert gradient[[0, 1, 3, 4]].abs().max() == 0


def test_of_two_levels_both_posteriors_are_freed():
    model, guide, x = programs("vamp:3", "planar:2,none", "two-level")
    assert [tuple(o.shape) for o in LocalGuide(guide, x).offsets] == [(5, 6), (5, 6), (5, 2, 3), (5, 2, 3), (5, 2)]
    result = gaps(model, guide, x, samples=1000, steps=150, lr=0.03)
    assert result.amortisation.mean > 10 * result.amortisation.error > 0
    assert result.approximation.mean > 0


@pytest.mark.parametrize("model", ["vae", "two-level"])
@pytest.mark.parametrize("flow", ["none", "planar:2"])
def test_a_prior_that_borrows_the_guide_stays_as_it_was(flow, model):
    model, guide, x = programs("vamp:5", flow, model)  # as many as images, so that their shapes would fit
    prior = model.prior
    z, site = torch.randn(50, 3), "z2" if hasattr(model, "middle") else "z"
    assert prior.q == guide.q  # borrowed
    before, local = prior().log_prob(z), LocalGuide(guide, x)
    values = {name: s["value"] for name, s in poutine.trace(guide).get_trace(x).nodes.items() if name[0] == "z"}
    joint = Joint(model)(x, {name: v.unsqueeze(0) for name, v in values.items()})
    for offset in local.offsets:
        offset.data.normal_()
    moved = poutine.trace(local).get_trace(x).nodes[site]["fn"].log_prob(values[site])
    assert (moved - guide.q(x).log_prob(values[site])).abs().min() > 1e-3
    assert torch.equal(prior().log_prob(z), before)
    assert torch.equal(Joint(model)(x, {name: v.unsqueeze(0) for name, v in values.items()}), joint)
    with _outputs_changed(lambda key, t: t + local._added[key] if key in local._added else t):
        assert not torch.equal(prior().log_prob(z), before)  # as it would be, were they added there too


def test_gaps_with_a_borrowing_prior_are_those_with_a_prior_that_has_its_own_encoder():
    model, guide, x = programs("vamp:5", "planar:2")
    own = VampPrior(copy.deepcopy(guide).q, SHAPE, components=5)
    own.load_state_dict(model.prior.state_dict())
    borrowed = gaps(model, guide, x, samples=200, steps=30)
    separate = gaps(VAE(own, model.decoder), guide, x, samples=200, steps=30)
    for name in ("log_likelihood", "optimised", "amortised"):
        assert torch.equal(getattr(borrowed, name).values, getattr(separate, name).values)
    assert borrowed.amortisation.mean > 0.1


def test_programs_are_left_as_they_were():
    model, guide, x = programs("vamp:3", "coupling:2")
    both = nn.ModuleList([model, guide])
    before, noise = copy.deepcopy(both.state_dict()), torch.get_rng_state()
    first = gaps(model, guide, x, samples=50, steps=5)
    again = gaps(model, guide, x, samples=50, steps=5)
    assert torch.equal(first.optimised.values, again.optimised.values)
    assert torch.equal(torch.get_rng_state(), noise)
    assert all(torch.equal(tensor, before[name]) for name, tensor in both.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in both.parameters())
    assert not torch.nn.modules.module._global_forward_hooks
    assert all("forward" not in vars(part) and part.training for part in model.modules())


def test_images_in_blocks_are_images_all_at_once():
    model, guide, x, exact, *_ = linear(correlated=False)
    result = gaps(model, guide, x, samples=500, steps=300, lr=0.03, rows=20, particles=10)  # two at a time
    assert result.optimised.values.shape == result.ess.shape == (6,)
    torch.testing.assert_close(result.optimised.values, exact, rtol=0, atol=0.03)


NET = nn.Linear(PIXELS, 4)


def function_guide(x):
    with pyro.plate("images", len(x)):
        loc, scale = NET(x.flatten(1)).chunk(2, -1)
        return pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


def test_a_function_that_calls_modules_is_freed_too():
    assert [tuple(offset.shape) for offset in LocalGuide(function_guide, torch.rand(7, *SHAPE)).offsets] == [(7, 4)]


def test_a_guide_without_modules_is_optimised_to_the_exact_posterior():
    def model(x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Normal(0.2 * x, 1.0).to_event(1))

    x = torch.randn(7, 1)
    exact = dist.Normal(0.0, 2**0.5).log_prob(x[:, 0]).double()
    result = gaps(model, guide, x, samples=500, steps=300, lr=0.05)
    assert (result.optimised.values - exact).abs().max() < 0.01 and result.ess.min() > 490
    amortised = exact - torch.distributions.kl_divergence(dist.Normal(0.2 * x, 1.0), dist.Normal(x / 2, 0.5**0.5))[:, 0]
    assert (result.amortised.values - amortised).abs().max() < 0.2


def test_a_guide_without_gradient_or_parameters_is_refused():
    def constant(x):
        with pyro.plate("images", len(x)):
            return pyro.sample("z", dist.Delta(x.flatten(1), event_dim=1))

    def discrete(x):
        with pyro.plate("images", len(x)):
            return pyro.sample("z", dist.Bernoulli(logits=NET(x.flatten(1))).to_event(1))

    x = torch.rand(7, *SHAPE)
    with pytest.raises(ValueError, match="nothing to optimise"):
        LocalGuide(constant, x)
    with pytest.raises(ValueError, match="'z' has no gradient"):
        LocalGuide(discrete, x)


@pytest.mark.parametrize("wrong", [{"samples": 1}, {"steps": 0}, {"particles": 0}])
def test_too_few_of_anything_is_refused(wrong):
    model, guide, x = programs()
    with pytest.raises(ValueError, match="{} is {}, expected at least".format(*next(iter(wrong.items())))):
        gaps(model, guide, x, **wrong)


POSITIVE, VECTORS = torch.tensor([0.5, 1.5, 2.0, 0.7]), torch.tensor([[0.2, 0.5, 0.3]] * 4)


@pytest.mark.parametrize(
    "fn",
    [
        dist.Beta(POSITIVE, 2.0),
        dist.Chi2(POSITIVE),
        dist.ContinuousBernoulli(logits=POSITIVE),
        dist.Gumbel(POSITIVE, 1.0),
        dist.HalfCauchy(POSITIVE),
        dist.HalfNormal(POSITIVE),
        dist.Kumaraswamy(POSITIVE, POSITIVE),
        dist.LogNormal(POSITIVE.expand(2, 4).T, 1.0).to_event(1),
        dist.LowRankMultivariateNormal(VECTORS, VECTORS[..., None], VECTORS),
        dist.MultivariateNormal(VECTORS, covariance_matrix=torch.diag_embed(VECTORS)),
        dist.Normal(POSITIVE, 1.0).mask(torch.tensor([True, False, True, True])),
        dist.RelaxedBernoulli(torch.tensor(0.5), probs=POSITIVE / 3),
        dist.RelaxedOneHotCategorical(torch.tensor(0.5), probs=VECTORS),
        dist.Weibull(POSITIVE, 2.0),
    ],
    ids=lambda fn: type(fn).__name__,
)
def test_every_parameter_of_a_distribution_is_shifted(fn):
    z, _ = fn.sample(), getattr(fn, "covariance_matrix", None)  # torch keeps what it computed as an attribute
    offsets = {name: torch.zeros_like(free).requires_grad_() for name, free in free_parameters(fn).items()}
    same = shift(fn, offsets)
    torch.testing.assert_close(same.log_prob(z), fn.log_prob(z), rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad(same.log_prob(z).sum(), list(offsets.values()))
    assert offsets and all(gradient.ne(0).any() for gradient in gradients)


def test_a_beta_posterior_of_each_image_is_found():
    """z ~ Beta(2, 2), x ~ Binomial(10, z): the posterior is in the guide's family, and log p(x) in closed form."""

    def model(x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Beta(2.0, 2.0))
            pyro.sample("x", dist.Binomial(10, z), obs=x)

    def guide(x):
        a = pyro.param("a", torch.tensor(1.5))
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Beta(a + 0.5 * x, a + 5 - 0.5 * x))

    x = torch.tensor([0.0, 3.0, 10.0])
    result = gaps(model, guide, x, samples=500, steps=300)
    exact = dist.BetaBinomial(2.0, 2.0, 10).log_prob(x).double()
    torch.testing.assert_close(result.optimised.values, exact, rtol=0, atol=0.02)
    assert (result.amortised.values < exact - 0.05).all()
