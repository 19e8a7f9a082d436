"""Discrete latents: sums over all codes against closed forms and loops, and what is said where codes are sampled."""

import contextlib
import itertools
import json
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from tests.cli.test_train import call
from tests.helpers import as_trained
from vampyro.catalogue.assemble import assemble
from vampyro.catalogue.saving import load
from vampyro.distributions import BernoulliVector, Codes, Mixture
from vampyro.likelihood import ais, bdmc, log_weights, posterior_draws, score
from vampyro.likelihood.discrete_moves import DiscreteTarget
from vampyro.likelihood.finite import MAX_CODES, all_codes, finite, finite_latents
from vampyro.training import elbo_parts

SHAPE = (1, 4, 5)


def collapsed(logit=20.0):
    """A bit that x ~ N(0, 1) does not depend on, and a guide that is sure of it."""

    def model(x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(torch.zeros(len(x)), 1.0), obs=x)

    def guide(x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=torch.full((len(x),), logit)))

    return model, guide


def test_a_collapsed_guide_does_not_hide_the_other_code():
    model, guide = collapsed()
    x, exact = torch.zeros(3), -0.5 * math.log(2 * math.pi)
    result = score(model, guide, x, 100)
    assert result.exact and result.log_likelihood.tolist() == pytest.approx([exact] * 3, abs=1e-7)
    assert result.monte_carlo_error.tolist() == [0.0] * 3 and "exact: a sum over all 2 codes" in result.verdict
    # E_q[log p(x, z) - log q(z)] = log p(x) + log ½ + the entropy of q, which is nearly 0.
    assert result.elbo.tolist() == pytest.approx([exact - math.log(2)] * 3, abs=1e-6)
    sampled = score(model, guide, x, 100, exact=False)
    assert sampled.log_likelihood.tolist() == pytest.approx([exact - math.log(2)] * 3, abs=1e-6)
    assert sampled.monte_carlo_error.isnan().all() and sampled.distinct.tolist() == [1.0] * 3
    assert sampled.summary()["monte_carlo_error"] is None and not sampled.suffices
    assert "unknown" in sampled.verdict and "1 distinct code)" in sampled.verdict and "suffice" not in sampled.verdict
    assert "error unknown" in repr(sampled) and "exact, 2 codes" in repr(result)


def programs(**how):
    torch.manual_seed(0)
    model, guide = assemble(hidden=(20,), shape=SHAPE, **how)
    as_trained(nn.ModuleList([model, guide])).eval()
    with torch.no_grad():
        return model, guide, model(batch=5)


DISCRETE = [
    {"posterior": "bernoulli", "prior": "vamp:6", "latent": 6},
    {"posterior": "bernoulli", "model": "two-level", "latent": (3, 4)},
    {"posterior": "vq:3", "latent": 16},
    {"posterior": "vq:3", "latent": 16, "prior": "autoregressive"},
]
each_discrete = pytest.mark.parametrize("how", DISCRETE, ids=str)


def by_loop(model, guide, x):
    """log p(x), the ELBO and log p(x, z) by conditioning both programs on one code after the other."""
    codes = all_codes(finite_latents(model, x))
    log_p, log_q = [], []
    for code in range(len(next(iter(codes.values())))):
        values = {name: z[code].expand(len(x), *z.shape[1:]) for name, z in codes.items()}
        for program, found in ((model, log_p), (guide, log_q)):
            trace = pyro.poutine.trace(pyro.poutine.condition(program, data=values)).get_trace(x)
            trace.compute_log_prob()
            found.append(sum(s["log_prob"].double() for s in trace.nodes.values() if "log_prob" in s))
    log_p, log_q = torch.stack(log_p), torch.stack(log_q)
    return log_p.logsumexp(0), (log_q.exp() * (log_p - log_q)).sum(0), log_p


@torch.no_grad()
@each_discrete
def test_the_sum_is_over_every_code_of_every_site(how):
    model, guide, x = programs(**how)
    log_likelihood, elbo, log_p = by_loop(model, guide, x)
    result = score(model, guide, x, 10)
    assert result.exact and result.samples == len(log_p)
    torch.testing.assert_close(result.log_likelihood, log_likelihood, rtol=0, atol=1e-4)
    torch.testing.assert_close(result.elbo, elbo, rtol=0, atol=1e-4)
    in_parts = score(model, guide, x, 10, rows=7)
    torch.testing.assert_close(in_parts.log_likelihood, result.log_likelihood, rtol=0, atol=1e-5)


@torch.no_grad()
@each_discrete
def test_annealing_finds_the_sum_without_the_guide(how):
    model, guide, x = programs(**how)
    x = x[:3]
    exact = score(model, guide, x, 10).log_likelihood
    result = ais(model, x, chains=50, temperatures=40)
    assert ((result.log_likelihood - exact).abs() < 4 * result.error + 1e-3).all() and result.error.max() < 0.2
    assert (result.acceptance > 0).all()
    bounds = bdmc(model, images=3, chains=25, temperatures=40)
    truth = score(model, guide, bounds.images, 10).log_likelihood
    assert (bounds.lower < truth + 5 * bounds.lower_error + 1e-3).all()
    assert (bounds.upper > truth - 5 * bounds.upper_error - 0.3).all() and bounds.gap.mean().abs() < 0.3


def test_moves_leave_the_tempered_posterior_as_it_is():
    """20,000 chains that start in p(z) p(x | z)^β exactly, on three bits under a mixture, stay there."""
    torch.manual_seed(1)
    prior = Mixture(BernoulliVector(2 * torch.randn(3, 3)))
    weight = torch.randn(3, 2)

    def model(x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", prior)
            pyro.sample("x", dist.Normal((3 * z @ weight).sin(), 0.5).to_event(1), obs=x)

    x, beta = torch.tensor([[0.3, -0.5]]), 0.6
    target = DiscreteTarget(model, x, finite_latents(model, x))
    every = target(torch.tensor(list(itertools.product(range(2), repeat=3))).unsqueeze(1))
    probabilities = every.log_density(beta)[:, 0].softmax(0)
    start = torch.multinomial(probabilities, 20_000, replacement=True)

    def frequencies(beta):
        point = target(every.z[start])
        point, rate = target.transition(point, beta, None, 4)
        code = (point.z[:, 0] * torch.tensor([4, 2, 1])).sum(-1)
        return code.bincount(minlength=8) / len(start), rate.mean()

    def distance(found):
        return ((found - probabilities).abs() / (probabilities * (1 - probabilities) / len(start)).sqrt()).max()

    found, rate = frequencies(beta)
    assert distance(found) < 4 and 0.1 < rate < 0.95
    assert distance(frequencies(0.0)[0]) > 10  # the test sees another density


def test_gradients_guide_the_moves():
    """Of 60 bits one is wrong: a move that the gradient chooses finds it far more often than one bit in 60."""

    def model(x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5).expand([60]).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.3).to_event(1), obs=x)

    x = torch.zeros(1, 60)
    target = DiscreteTarget(model, x, finite_latents(model, x))
    index = torch.zeros(500, 1, 60, dtype=torch.long)
    index[..., 7] = 1
    point, _ = target.transition(target(index), 1.0, None, 1)
    assert (point.z.sum(-1) == 0).float().mean() > 0.4


@pytest.mark.parametrize(
    ("fn", "codes", "positions"),
    [
        (dist.Bernoulli(0.3), 2, 1),
        (dist.Bernoulli(torch.full((3,), 0.3)).to_event(1), 8, 3),
        (dist.Categorical(torch.ones(5)), 5, 1),
        (dist.Categorical(torch.ones(2, 3, 5)).to_event(2), 5**6, 6),
        (dist.OneHotCategorical(torch.ones(4)), 4, 1),
        (BernoulliVector(torch.zeros(4)), 16, 4),
        (Mixture(BernoulliVector(torch.zeros(3, 4))), 16, 4),
        (Codes(torch.zeros(3, 5), torch.randn(5, 2)), 125, 3),
    ],
    ids=repr,
)
def test_supports_are_listed_once_each(fn, codes, positions):
    values = fn.sample((50,))
    support = finite(fn, values, fn.batch_shape + fn.event_shape)
    assert (support.codes, support.positions) == (codes, positions)
    assert torch.equal(support.at(support.index_of(values)), values)
    every = support.at(support.all())
    assert every.dtype == values.dtype and len(every.reshape(codes, -1).unique(dim=0)) == codes
    if codes < 1000:
        assert fn.log_prob(every).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    "fn", [dist.Normal(0.0, 1.0), dist.Poisson(1.0), dist.Binomial(3, torch.tensor(0.5)), dist.Geometric(0.5)]
)
def test_other_supports_are_not_summed(fn):
    assert finite(fn, fn.sample(), fn.event_shape) is None


def test_more_codes_than_4096_are_sampled_and_the_error_is_unknown():
    model, guide, x = programs(posterior="bernoulli", latent=13)
    result = score(model, guide, x, 50)
    assert 2**13 > MAX_CODES and not result.exact and result.discrete and result.samples == 50
    assert result.monte_carlo_error.isnan().all() and "unknown" in result.verdict
    torch.manual_seed(0)
    expected = torch.cat(list(log_weights(model, guide, x, 50))).logsumexp(0) - math.log(50)
    assert (result.log_likelihood - expected).abs().max() < 5  # the same quantity by other samples
    with pytest.raises(ValueError, match="exact=True sums over at most 4096 codes, and the model has 8192 codes"):
        score(model, guide, x, 50, exact=True)
    model, guide, x = programs()
    with pytest.raises(ValueError, match="continuous or unbounded"):
        score(model, guide, x, 50, exact=True)
    assert not score(model, guide, x, 50).discrete


def test_draws_of_few_codes_are_the_posterior_itself():
    model, guide, x = programs(posterior="bernoulli", prior="vamp:6", latent=3)
    draws = posterior_draws(model, guide, x, 20_000)
    codes = all_codes(finite_latents(model, x))["z"]
    log_p = by_loop(model, guide, x)[2]
    found = (draws.values["z"].unsqueeze(0) == codes[:, None, None]).all(-1).double().mean(1)  # (codes, images)
    error = (found - log_p.softmax(0)).abs() / (log_p.softmax(0) / 20_000).sqrt()
    assert error.max() < 4 and draws.score.exact


def test_a_run_with_few_codes_is_exact_from_the_command_line(dataset, tmp_path, capsys):
    out = tmp_path / "a"
    command = ["--dataset", dataset, "--posterior", "bernoulli", "--prior", "vamp:5", "--latent", 5, "--hidden", 10]
    assert call(*command, "--epochs", 1, "--samples", 30, "--device", "cpu", "--out", out) in (None, 0)
    printed = capsys.readouterr().out
    assert "exact, by a sum over all 32 codes" in printed and "suffice" not in printed and "--measures" not in printed
    test = json.loads((out / "results.json").read_text())["test"]
    assert test["exact"] and test["samples"] == 32 and test["monte_carlo_error"] == 0.0 and test["convergence"] == {}
    assert call("score", out, "--measures", "likelihood,ais", "--images", 5, "--temperatures", 20) in (None, 0)
    printed = capsys.readouterr().out
    assert "by a sum over all 32 codes" in printed and "the sum is exact" in printed
    model, guide = load(out)
    assert score(model, guide, torch.zeros(2, 1, 6, 5), 10).exact


def test_a_run_with_many_codes_says_that_its_error_is_unknown(dataset, tmp_path, capsys):
    out = tmp_path / "a"
    command = ["--dataset", dataset, "--posterior", "bernoulli", "--latent", 20, "--hidden", 10]
    assert call(*command, "--epochs", 1, "--samples", 30, "--device", "cpu", "--out", out) in (None, 0)
    printed = capsys.readouterr().out
    assert "of unknown Monte Carlo error" in printed and f"run.py score {out} --measures ais" in printed
    assert json.loads((out / "results.json").read_text())["test"]["monte_carlo_error"] is None
    assert call("score", out, "--measures", "ais", "--images", 3, "--temperatures", 5) in (None, 0)
    assert "the error of importance sampling is unknown" in capsys.readouterr().out


INITIAL, EMISSION = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.5, 0.9])
TRANSITION = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])


def hidden_markov_model():
    """Sequences of at most 4 bits; column 1 of x is a mask. Sequence 4 lacks a step in the middle."""
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 1, 1]])
    torch.manual_seed(0)
    x = torch.stack([(torch.rand(5, 4) < 0.5).float(), mask.float()], -1)

    def model(x=None, batch=1):
        size, z, bits = batch if x is None else len(x), None, []
        with pyro.plate("sequences", size):
            for t in range(4):
                with pyro.poutine.mask(mask=torch.ones(size) > 0 if x is None else x[:, t, 1] > 0):
                    z = pyro.sample(f"z_{t}", dist.Categorical(INITIAL if z is None else TRANSITION[z]))
                    observed = None if x is None else x[:, t, 0]
                    bits.append(pyro.sample(f"x_{t}", dist.Bernoulli(EMISSION[z]), obs=observed))
        return torch.stack([torch.stack(bits, -1), torch.ones(size, 4)], -1) if x is None else x

    def guide(x):
        with pyro.plate("sequences", len(x)):
            for t in range(4):
                bit = x[:, t, 0]
                with pyro.poutine.mask(mask=x[:, t, 1] > 0):
                    weights = torch.stack([1.5 - bit, torch.ones_like(bit), bit + 0.5], -1)
                    pyro.sample(f"z_{t}", dist.Categorical(weights))

    return model, guide, x


def forward_algorithm(x):
    """log p of the steps that are not masked."""
    found = []
    for sequence in x.double():
        alpha = INITIAL.double()
        for t, (bit, seen) in enumerate(sequence):
            alpha = alpha if t == 0 else alpha @ TRANSITION.double()
            alpha = alpha * (bit * EMISSION + (1 - bit) * (1 - EMISSION)) ** seen
        found.append(alpha.sum().log())
    return torch.stack(found)


def test_a_masked_latent_has_its_prior_in_a_sum_and_in_annealing():
    model, guide, x = hidden_markov_model()
    truth = forward_algorithm(x)
    result = score(model, guide, x)
    torch.testing.assert_close(result.log_likelihood, truth, rtol=0, atol=1e-5)
    sampled = score(model, guide, x[:4], 20_000, exact=False)  # of sequence 4 the weights depend on a masked latent
    torch.testing.assert_close(result.log_likelihood[:4], sampled.log_likelihood, rtol=0, atol=0.03)
    torch.testing.assert_close(result.elbo[:4], sampled.elbo, rtol=0, atol=0.06)
    annealed = ais(model, x, chains=200, temperatures=50)
    assert ((annealed.log_likelihood - truth).abs() < 4 * annealed.error + 1e-3).all() and annealed.error.max() < 0.1
    draws = posterior_draws(model, guide, x[:1], 4000)
    later = TRANSITION[draws.values["z_0"][:, 0]].mean(0)
    frequencies = draws.values["z_1"][:, 0].bincount(minlength=3) / 4000
    assert (frequencies - later).abs().max() < 0.04


def test_a_masked_continuous_latent_has_its_prior_in_annealing():
    """Of half of the images z and x are missing but y ~ N(z, 1) is not: log p(y) = log N(y; 0, 2)."""

    def model(xy):
        with pyro.plate("images", len(xy)):
            with pyro.poutine.mask(mask=xy[:, 0] > 0):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=xy[:, 0])
            pyro.sample("y", dist.Normal(z, 1.0), obs=xy[:, 1])

    xy = torch.tensor([[-1.0, 0.3], [-1.0, 2.0], [0.5, 0.3]])
    result = ais(model, xy, chains=200, temperatures=100)
    both = dist.MultivariateNormal(torch.zeros(2), torch.tensor([[2.0, 1.0], [1.0, 2.0]])).log_prob(xy[2])
    truth = torch.cat([dist.Normal(0.0, 2**0.5).log_prob(xy[:2, 1]), both[None]]).double()
    assert ((result.log_likelihood - truth).abs() < 4 * result.error + 1e-3).all() and result.error.max() < 0.1


def test_bounds_of_a_hidden_markov_model_enclose_the_forward_algorithm():
    model, _, _ = hidden_markov_model()
    bounds = bdmc(model, images=6, chains=100, temperatures=50)
    truth = forward_algorithm(bounds.images)
    assert (bounds.lower < truth + 5 * bounds.lower_error).all() and (bounds.upper > truth - 0.3).all()
    assert bounds.gap.mean().abs() < 0.1


def test_a_factor_of_the_guide_counts_in_an_exact_elbo():
    model, guide = collapsed(logit=0.5)
    x = torch.zeros(3)

    def with_factor(x):
        guide(x)
        with pyro.plate("others", len(x)):
            pyro.factor("penalty", torch.full((len(x),), 0.25), has_rsample=False)

    without, result = score(model, guide, x), score(model, with_factor, x)
    assert torch.equal(result.log_likelihood, without.log_likelihood)
    torch.testing.assert_close(result.elbo, without.elbo - 0.25)


@pytest.mark.parametrize("discrete", [True, False])
def test_a_support_may_depend_on_the_latent(discrete):
    """x ~ Uniform(0, z): log p(x) is log Σ_k π_k 1(x < k)/k for a category, log E₁(x) for z ~ Exponential(1)."""
    prior = torch.tensor([0.2, 0.3, 0.5])

    def model(x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Categorical(prior) if discrete else dist.Exponential(1.0))
            pyro.sample("x", dist.Uniform(0.0, 1.0 + z if discrete else z), obs=x)

    def guide(x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Categorical(torch.ones(3)) if discrete else dist.Exponential(0.7))

    x, upper = torch.tensor([0.5, 1.5, 2.5]), torch.arange(1, 4)
    truth = (prior * (x[:, None] < upper) / upper).sum(1).log().double()
    truth = truth if discrete else torch.tensor([0.559773595, 0.100019583, 0.024914918], dtype=torch.float64).log()
    for exact in (True, False) if discrete else (False,):
        result = score(model, guide, x, 20_000, exact=exact)
        torch.testing.assert_close(result.log_likelihood, truth, rtol=0, atol=1e-5 if exact else 0.05)
    annealed = ais(model, x[:1], chains=400, temperatures=50)
    torch.testing.assert_close(annealed.log_likelihood, truth[:1], rtol=0, atol=0.15)
    assert elbo_parts(model, guide, x)["elbo"] < 0


def test_images_outside_of_every_support_are_still_an_error():
    def model(x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Binomial(255, 0.3 + 0.4 * z), obs=x)

    def guide(x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Bernoulli(0.5))

    assert score(model, guide, torch.tensor([3.0, 200.0])).log_likelihood.isfinite().all()
    with pytest.raises(ValueError, match="the model has no mass on these images: its site 'x'"):
        score(model, guide, torch.tensor([3.0, 0.5]))


@pytest.mark.parametrize("prior", [dist.Bernoulli(0.5), dist.Normal(0.0, 1.0)], ids=["discrete", "continuous"])
def test_a_model_without_data_has_the_likelihood_one(prior):
    def model(x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", prior)

    assert ais(model, torch.zeros(3), chains=3, temperatures=5).log_likelihood.tolist() == [0.0] * 3


def test_an_image_of_probability_zero_has_no_posterior():
    def model(x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Uniform(0.0, 1.0 + z), obs=x)

    def guide(x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Bernoulli(0.5))

    x = torch.tensor([0.5, 1.5, 9.0])
    assert score(model, guide, x).log_likelihood.isfinite().tolist() == [True, True, False]
    with pytest.raises(ValueError, match="images have no posterior .* 1 of these 3 images"):
        posterior_draws(model, guide, x, 10)


@pytest.mark.parametrize("by", [pyro.poutine.mask, None], ids=["poutine.mask", "Distribution.mask"])
def test_either_kind_of_mask_leaves_a_latent_its_prior(by):
    """Images whose second number is 0 are missing; masked data may lie outside of the support."""

    def model(x):
        def masked(fn):
            return fn if by else fn.mask(x[:, 1] > 0)

        with pyro.plate("images", len(x)), by(mask=x[:, 1] > 0) if by else contextlib.nullcontext():
            z = pyro.sample("z", masked(dist.Categorical(torch.tensor([0.2, 0.8]))))
            pyro.sample("x", masked(dist.Bernoulli(0.1 + 0.6 * z)), obs=x[:, 0])

    def guide(x):
        with pyro.plate("images", len(x)), pyro.poutine.mask(mask=x[:, 1] > 0):
            pyro.sample("z", dist.Categorical(torch.ones(2)))

    x = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.5, 0.0]])
    truth = torch.tensor([0.2 * 0.1 + 0.8 * 0.7, 0.2 * 0.9 + 0.8 * 0.3, 1.0], dtype=torch.float64).log()
    result = score(model, guide, x)
    torch.testing.assert_close(result.log_likelihood, truth, rtol=0, atol=1e-6)
    assert result.elbo[2] == 0 and (result.elbo <= truth).all()
    torch.testing.assert_close(ais(model, x, chains=400, temperatures=20).log_likelihood, truth, rtol=0, atol=0.1)
