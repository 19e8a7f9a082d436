"""Moments and gradients against sums, samples and float64, at extreme parameters too; errors for missing moments."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence
from torch.fx.experimental.proxy_tensor import make_fx

from tests.helpers import gap
from vampyro import distributions
from vampyro.catalogue.assemble import assemble
from vampyro.diagnostics import active_units
from vampyro.distributions import (
    AutoregressiveCodes,
    BernoulliVector,
    Codes,
    ContinuousBernoulli,
    DiagonalNormal,
    DiscretisedLogistic,
    FlowDistribution,
    FullNormal,
    LabelledImages,
    LinearBernoulli,
    Mixture,
    Quantised,
)
from vampyro.distributions.bernoulli import _sum_of_softplus
from vampyro.flows.planar import Planar

CODEBOOK = torch.tensor([[0.0, 1.0], [2.0, -1.0], [3.0, 0.5]])
INF = math.inf


def planar_flow(*batch):
    return FlowDistribution(
        DiagonalNormal(torch.zeros(*batch, 2), torch.ones(*batch, 2)),
        Planar(*(torch.randn(*batch, 3, 2),) * 2, torch.zeros(*batch, 3)),
    )


def autoregressive():
    return AutoregressiveCodes(lambda codes: 0 * codes, CODEBOOK, positions=2)


def labelled():
    def decode(z, y):
        return dist.Bernoulli((z * y).unflatten(-1, (1, 1, 2))).to_event(3)

    return LabelledImages(decode, torch.ones(3, 2), (1, 1, 2), classes=2)


# Moments


COMPONENTS = {
    "normal": lambda: DiagonalNormal(torch.tensor([[-50.0, 0.0], [1.0, 2.0], [3.0, 0.0]]), torch.rand(3, 2) + 0.5),
    "full": lambda: FullNormal(
        torch.randn(3, 2), scale_tril=torch.eye(2).expand(3, 2, 2) + 0.5 * torch.ones(2, 2).tril(-1)
    ),
    "bits": lambda: BernoulliVector(torch.randn(3, 2)),
    "codes": lambda: Codes(torch.randn(3, 1, 3), CODEBOOK),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", COMPONENTS)
def test_a_mixtures_moments_are_those_of_torchs_mixture(name, weighted):
    components = COMPONENTS[name]()
    logits = torch.tensor([0.3, -INF, 1.0]) if weighted else None
    p = Mixture(components, logits)
    weights = torch.distributions.Categorical(logits=torch.zeros(3) if logits is None else logits)
    truth = torch.distributions.MixtureSameFamily(weights, components)
    torch.testing.assert_close(p.mean, truth.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(p.variance, truth.variance, rtol=1e-4, atol=1e-6)
    assert torch.equal(p.expand((4,)).mean, p.mean.expand(4, 2))
    assert torch.equal(p.expand((4,)).stddev, p.stddev.expand(4, 2))
    again = p.expand((4,)).with_batch_shape(())
    assert again.batch_shape == () and torch.equal(again.mean, p.mean)


@pytest.mark.parametrize("prior", ["mog:3", "mog:3:weighted", "vamp:3", "gmm"])
def test_a_priors_mean_is_that_of_its_samples(prior):
    if prior == "gmm":
        from vampyro.priors import FittedMixture

        p = FittedMixture.fit(torch.randn(50, 2), 2)()
    else:
        p = assemble(prior=prior, hidden=(8,), latent=2, shape=(1, 4, 4))[0].prior()
    z = p.sample((20000,))
    assert gap(p.mean, z.mean(0)) < 6 * (p.stddev.max() / 20000**0.5).item()
    torch.testing.assert_close(p.variance, z.var(0), rtol=0.1, atol=0)


def test_moments_of_likelihoods_against_sums_and_integrals():
    logits = torch.tensor([-200.0, -3.0, -0.499, 0.0, 0.2, 0.501, 7.0, 60.0], dtype=torch.float64)
    x = (torch.arange(200000, dtype=torch.float64)[:, None] + 0.5) / 200000
    p = ContinuousBernoulli(logits)
    density = p.log_prob(x).exp() / len(x)
    mean = (x * density).sum(0)
    torch.testing.assert_close(p.mean, mean, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(p.variance, ((x - mean).square() * density).sum(0), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(ContinuousBernoulli(logits.float()).variance.double(), p.variance, rtol=3e-5, atol=0)
    h, weight, bias = torch.randn(5, 3), torch.randn(4, 3), torch.randn(4)
    linear = LinearBernoulli(h, weight, bias, (1, 2, 2))
    assert gap(linear.variance, dist.Bernoulli(logits=linear.logits).variance) < 1e-6
    assert Quantised(torch.randn(3, 4), CODEBOOK).variance.eq(0).all()


def test_a_discretised_logistics_mean_keeps_its_digits_above_one():
    """Reflection: the mean of the logistic at 1 - loc is 1 minus that at loc."""
    loc = torch.tensor([0.5, 0.7, 1.0, 1.5, 30.0, 1e4, 1e8])
    for scale in (0.02, 0.3):
        wide = DiscretisedLogistic(loc.double(), torch.tensor(scale).double()).mean
        assert gap(DiscretisedLogistic(loc, torch.tensor(scale)).mean.double(), wide) < 3e-7
        assert gap(DiscretisedLogistic(1 - loc.double(), torch.tensor(scale).double()).mean, 1 - wide) < 1e-12
    assert DiscretisedLogistic(loc[-1], torch.tensor(0.3)).mean == 1


def test_entropy_of_codes_is_the_mean_of_their_log_probability():
    p = Codes(torch.tensor([[0.5, -INF, 1.0], [0.0, 2.0, -1.0]]), CODEBOOK)
    pairs = torch.stack([torch.cat([a, b]) for a in CODEBOOK for b in CODEBOOK])
    log_prob = p.log_prob(pairs)
    possible = log_prob > -INF
    truth = -(log_prob.exp() * log_prob)[possible].sum()
    assert p.entropy().item() == pytest.approx(truth.item(), rel=1e-5)


# Where there is no closed form


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("mean", planar_flow, r"FlowDistribution\(.*Planar.* no closed-form mean; q.sample\(\(1000,\)\).mean\(0\)"),
        ("variance", planar_flow, r"no closed-form variance; q.sample\(\(1000,\)\).var\(0\)"),
        ("mean", lambda: Mixture(planar_flow(4)), r"Mixture\(4 × FlowDistribution.*p.sample\(\(1000,\)\).mean\(0\)"),
        ("variance", lambda: Mixture(planar_flow(4)), r"Mixture\(4 × FlowDistribution.*p.sample\(\(1000,\)\).var\(0\)"),
        ("mean", autoregressive, r"AutoregressiveCodes\(.*p.sample\(\(1000,\)\).mean\(0\)"),
        ("mean", labelled, r"LabelledImages\(.*p.given\(y\).mean"),
        ("variance", lambda: DiscretisedLogistic(torch.zeros(2), torch.ones(2)), r"DiscretisedLogistic.*var\(0\)"),
    ],
)
def test_a_missing_moment_is_an_error_that_says_how_to_estimate_it(name, make, words):
    with pytest.raises(NotImplementedError, match=words):
        getattr(make(), name)


@pytest.mark.parametrize("name", ["mean", "variance", "stddev", "entropy"])
def test_no_distribution_of_ours_has_an_error_without_words(name):
    ours = [planar_flow(), autoregressive(), labelled(), DiscretisedLogistic(torch.zeros(2), torch.ones(2))]
    ours += [ContinuousBernoulli(torch.zeros(2)), Quantised(torch.randn(3, 4), CODEBOOK), Mixture(planar_flow(4))]
    ours += [LinearBernoulli(torch.zeros(3, 2), torch.zeros(4, 2), torch.zeros(4), (1, 2, 2))]
    ours += [components() for components in COMPONENTS.values()]
    contracts = {"Bijection", "CodeDistribution", "Distribution", "pairwise_log_prob"}
    assert {type(p).__name__ for p in ours} == set(distributions.__all__) - contracts
    for p in ours:
        try:
            found = getattr(p, name)
            found = found() if callable(found) else found
        except NotImplementedError as error:
            assert str(error).startswith("variance" if name == "stddev" else name)
        else:
            assert found.isfinite().all()


def test_active_units_sample_behind_a_flow():
    model, guide = assemble(flow="planar:2", hidden=(8,), latent=3, shape=(1, 4, 4))
    assert active_units(model, guide, torch.rand(20, 1, 4, 4), samples=10)["z"].noise.gt(0).all()


# Extreme parameters


EXTREMES = [0.0, 1e-38, 1e-20, 1e-7, 1e-3, 0.499, 0.5, 1.0, 17.0, 20.1, 88.0, 89.0, 104.0, 1e3, 1e6, 1e18]


def extremes():
    return torch.tensor(EXTREMES + [-number for number in EXTREMES])


def rows(logits):
    return torch.stack([logits, 0 * logits, -logits], -1).unsqueeze(-2)


DENSITIES = {
    "continuous Bernoulli, mean": lambda t: ContinuousBernoulli(t).mean,
    "continuous Bernoulli, variance": lambda t: ContinuousBernoulli(t).variance,
    "continuous Bernoulli at 0.3": lambda t: ContinuousBernoulli(t).log_prob(t.new_tensor(0.3)),
    "logistic, mean": lambda t: DiscretisedLogistic(t, t.new_tensor(0.011)).mean,
    "logistic at 0": lambda t: DiscretisedLogistic(t, t.new_tensor(0.011)).log_prob(t.new_tensor(0.0)),
    "logistic at 0.4": lambda t: DiscretisedLogistic(t, t.new_tensor(0.011)).log_prob(t.new_tensor(0.4)),
    "logistic at 1": lambda t: DiscretisedLogistic(t, t.new_tensor(0.011)).log_prob(t.new_tensor(1.0)),
    "logistic, mean by scale": lambda t: DiscretisedLogistic(t.new_tensor(5.0), t.abs() + 1e-15).mean,
    "logistic by scale": lambda t: DiscretisedLogistic(t.new_tensor(5.0), t.abs() + 1e-15).log_prob(t.new_tensor(0.4)),
    "bits": lambda t: BernoulliVector(t[:, None]).log_prob(t.new_ones(1)),
    "bits, mean": lambda t: BernoulliVector(t).mean,
    "bits, variance": lambda t: BernoulliVector(t).variance,
    "mixture of bits": lambda t: Mixture(BernoulliVector(t[:, None])).log_prob(t.new_tensor([[0.0], [1.0]])),
    "bits, KL": lambda t: kl_divergence(BernoulliVector(t[:, None]), BernoulliVector(t.flip(0)[:, None])),
    "pixels": lambda t: pixels(t).log_prob(t.new_ones(len(t), 1, 1, 2)),
    "pixels, one image": lambda t: pixels(t).log_prob(t.new_ones(1, 1, 2)),
    "pixels, variance": lambda t: pixels(t).variance,
    "codes": lambda t: Codes(rows(t), CODEBOOK.to(t)).log_prob(CODEBOOK[1].to(t)),
    "codes, pairs": lambda t: Codes(rows(t), CODEBOOK.to(t)).pairwise_log_prob(CODEBOOK.to(t)),
    "codes, mean": lambda t: Codes(rows(t), CODEBOOK.to(t)).mean,
    "codes, KL": lambda t: kl_divergence(Codes(rows(t), CODEBOOK.to(t)), Codes(rows(t.flip(0)), CODEBOOK.to(t))),
    "mixture's weights": lambda t: Mixture(DiagonalNormal(t.new_zeros(32, 1), t.new_ones(32, 1)), t).log_prob(
        t.new_ones(1)
    ),
}


def pixels(t):
    return LinearBernoulli(t[:, None], t.new_ones(2, 1), t.new_zeros(2), (1, 1, 2))


@pytest.mark.parametrize("name", DENSITIES)
def test_gradients_at_extreme_parameters_are_finite_and_those_of_float64(name):
    gradients = []
    for dtype in (torch.float32, torch.float64):
        t = extremes().to(dtype).requires_grad_()
        value = DENSITIES[name](t)
        assert value.isfinite().all()
        gradients.append(torch.autograd.grad(value.sum(), t)[0].double())
    assert gradients[0].isfinite().all()
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4 * max(1, gradients[1].abs().max().item()))


def test_the_gradient_of_a_continuous_bernoullis_mean_falls_as_one_over_the_square():
    logits = torch.tensor([88.0, 89.0, 100.0, 1e4, -89.0, -1e4], requires_grad=True)
    (gradient,) = torch.autograd.grad(ContinuousBernoulli(logits).mean.sum(), logits)
    torch.testing.assert_close(gradient, logits.detach().pow(-2), rtol=1e-5, atol=0)


def test_compiled_pixels_have_their_first_and_second_derivative_at_logit_zero():
    """softplus has ½ and ¼ there; |l| and relu(l), of which a compiled graph makes it, have a kink."""

    def derivatives(logits):
        logits = logits.detach().requires_grad_()
        (first,) = torch.autograd.grad(_sum_of_softplus(logits).sum(), logits, create_graph=True)
        return first.detach(), torch.autograd.grad(first.sum(), logits)[0]

    first, second = make_fx(derivatives)(torch.zeros(1, 32))(torch.zeros(1, 32))
    assert first.eq(0.5).all() and second.eq(0.25).all()


def test_a_code_that_cannot_be_is_minus_infinity_and_nothing_else_is():
    logits = torch.tensor([[[0.0, 1.0, -INF]], [[0.5, -INF, 2.0]]], requires_grad=True)
    p = Codes(logits, CODEBOOK)
    pairs = p.pairwise_log_prob(CODEBOOK)
    assert torch.equal(pairs, p.log_prob(CODEBOOK.unsqueeze(1)))
    assert pairs.isinf().sum() == 2 and not pairs.isnan().any()
    (gradient,) = torch.autograd.grad(Mixture(p).log_prob(CODEBOOK).sum(), logits)
    assert gradient.isfinite().all()


def test_the_kl_of_codes_that_cannot_be():
    """0 log 0 is 0; where q is possible and p is not, the KL is infinite."""
    few = Codes(torch.tensor([[0.0, 1.0, -INF]]), CODEBOOK)
    fewer, all_of_them = Codes(torch.tensor([[2.0, 0.0, -INF]]), CODEBOOK), Codes(torch.zeros(1, 3), CODEBOOK)
    truth = kl_divergence(*(torch.distributions.Categorical(logits=p.log_probs[0, :2]) for p in (few, fewer)))
    assert kl_divergence(few, fewer).item() == pytest.approx(truth.item(), rel=1e-5)
    wide = math.log(3) - torch.distributions.Categorical(logits=few.log_probs[0, :2]).entropy().item()
    assert kl_divergence(few, all_of_them).item() == pytest.approx(wide, rel=1e-5)
    assert kl_divergence(all_of_them, few) == INF
    logits = torch.tensor([[0.0, 1.0, -INF]], requires_grad=True)
    (gradient,) = torch.autograd.grad(kl_divergence(Codes(logits, CODEBOOK), fewer), logits)
    assert gradient.isfinite().all()


# Expanding


@pytest.mark.parametrize(
    "p",
    [
        Mixture(DiagonalNormal(torch.zeros(3, 2), torch.ones(3, 2))).expand((5,)),
        LinearBernoulli(torch.zeros(5, 2), torch.zeros(4, 2), torch.zeros(4), (1, 2, 2)),
        autoregressive().expand((5,)),
        LabelledImages(None, torch.zeros(5, 2), (1, 1, 2), 2),
    ],
    ids=lambda p: type(p).__name__,
)
def test_expand_rejects_a_shape_that_the_batch_does_not_expand_to(p):
    for wrong in ((3,), (5, 3), (), (1,)):
        with pytest.raises(ValueError, match=r"batch_shape is .*, expected one that \(5,\), the batch shape of the "):
            p.expand(wrong)
    assert p.expand((2, 5)).batch_shape == (2, 5)
