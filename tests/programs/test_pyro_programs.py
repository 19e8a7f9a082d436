"""Other people's Pyro programs through every function: the table of docs/programs.md, and numbers that are known."""

import inspect
import math
import re
import warnings
from functools import partial
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.importance import vectorized_importance_weights
from torch import nn

from tests import pyro_programs
from tests.pyro_programs import PROGRAMS
from vampyro.diagnostics import active_units, component_use, decompose, gaps, surgery
from vampyro.distributions import DiagonalNormal, Mixture
from vampyro.likelihood import ais, bdmc, log_weights, posterior_draws, score
from vampyro.objectives import IWAE, ScaleLatents, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from vampyro.programs.randomness import seeded
from vampyro.training import elbo_parts, fit, make_update, validation

PAGE = (Path(__file__).parents[2] / "docs" / "programs.md").read_text()


class Data:
    """Batches of all images."""

    device = torch.device("cpu")

    def __init__(self, images):
        self.images = images

    def batches(self, size):
        yield self.images


def train(case, engine, objective=None):
    update = make_update(case.model, case.guide, engine=engine, objective=objective)
    return [metrics["loss"] for metrics in fit(update, Data(case.images), epochs=2)]


FUNCTIONS = {
    "svi": lambda case: train(case, "svi"),
    "eager": lambda case: train(case, "eager"),
    "IWAE": lambda case: train(case, "svi", IWAE(3)),
    "score": lambda case: score(*case, samples=20, rows=20).log_likelihood,
    "log_weights": lambda case: torch.cat(list(log_weights(*case, 20))),
    "elbo_parts": lambda case: list(elbo_parts(*case).values()),
    "decompose": lambda case: decompose(*case, samples=10, rows=40).elbo.values,
    "gaps": lambda case: gaps(*case, samples=10, steps=3, rows=20).optimised.values,
    "posterior_draws": lambda case: posterior_draws(*case, samples=5).log_likelihood,
    "active_units": lambda case: [units.variance for units in active_units(*case, samples=5).values()],
    "surgery": lambda case: surgery(*case).kl.values,
    "ais": lambda case: ais(case.model, case.images, chains=3, temperatures=5, leapfrog=2).log_likelihood,
}
REASONS = {
    "a": "trains the parameters of nn.Modules",
    "b": "is shared between images.*vectorized_importance_weights",
    "c": "is discrete|has no gradient|needs reparameterised sites",
    "d": "is a Delta|has batch shape",
    "e": "sample the model's first latent first",
    "f": "leave out subsample_size",
    "g": "replace the loop over a plate",
    "h": "the values of a Categorical are labels",
    "i": "depends on the image",
}


def outcome(program, function):
    """`yes` where a function computes finite numbers, otherwise the letter of the reason that its error gives."""
    case = getattr(pyro_programs, program)()
    try:
        values = FUNCTIONS[function](case)
    except (ValueError, TypeError) as error:
        [letter] = [letter for letter, message in REASONS.items() if re.search(message, str(error), re.DOTALL)]
        return letter
    assert all(torch.as_tensor(value).isfinite().all() for value in values)
    return "yes"


def table():
    """{program: {function: outcome}} of the page."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines)
    return {row[0]: dict(zip(header[2:], row[2:])) for row in rows}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("program", [program.__name__ for program in PROGRAMS])
def test_the_page_says_what_works(program):
    expected = table()[program]
    assert list(expected) == list(FUNCTIONS)
    for function in FUNCTIONS:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert outcome(program, function) == expected[function], function


def test_the_page_describes_every_program_and_reason():
    assert table().keys() == {program.__name__ for program in PROGRAMS}
    for program in PROGRAMS:
        assert f"| `{program.__name__}` | {program.__doc__}" in PAGE
    assert set(REASONS) == set(re.findall(r"^- \*\*([a-z])\*\*", PAGE, re.MULTILINE))


def joint_weights(case, samples):
    weights, *_ = vectorized_importance_weights(*case, num_samples=samples, max_plate_nesting=1)
    return weights


def test_weights_of_an_autoguide_are_pyros_own():
    case = pyro_programs.local_autonormal()
    case.guide(case.images)
    with torch.no_grad():
        case.guide.scales.s.copy_(torch.rand(12) + 0.2)
        torch.manual_seed(1)
        expected = joint_weights(case, 7)
    torch.manual_seed(1)
    ours = torch.cat(list(log_weights(*case, 7))).sum(1)  # images are independent
    torch.testing.assert_close(ours.float(), expected, rtol=1e-5, atol=1e-5)
    torch.manual_seed(1)
    loss = Trace_ELBO().differentiable_loss(*case)
    torch.manual_seed(1)
    assert torch.equal(TraceMeanField_ELBO().differentiable_loss(*case), loss)  # it counts the log-determinant, too


def test_a_score_under_an_autoguide_is_the_exact_likelihood():
    """x ~ N(z, 1), z ~ N(0, 1): under the exact posterior every weight is p(x)."""

    def model(x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    x = torch.randn(9)
    guide = pyro.infer.autoguide.AutoNormal(model)
    guide(x)
    with torch.no_grad():
        guide.locs.z.copy_(x / 2)
        guide.scales.z = torch.full((9,), 0.5**0.5)
    exact = dist.Normal(0.0, 2**0.5).log_prob(x).double()
    result = score(model, guide, x, samples=5)
    torch.testing.assert_close(result.log_likelihood, exact, rtol=0, atol=1e-5)
    parts = decompose(model, guide, x, samples=5)
    torch.testing.assert_close(parts.elbo.values, exact, rtol=0, atol=1e-5)
    assert elbo_parts(model, guide, x)["elbo"] == pytest.approx(exact.mean().item(), abs=1e-5)
    optimised = gaps(model, guide, x, samples=5, steps=2, lr=1e-9).optimised
    torch.testing.assert_close(optimised.values, exact, atol=1e-5, rtol=0)


def test_an_auxiliary_site_without_a_delta_is_a_latent_that_the_model_lacks():
    case = pyro_programs.vae()

    def guide(x):
        with pyro.plate("others", len(x)):
            pyro.sample("a", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
        case.guide(x)

    for evaluate in (elbo_parts, partial(score, samples=3), partial(decompose, samples=3)):
        with pytest.raises(ValueError, match="only the guide has 'a'"):
            evaluate(case.model, guide, case.images)


def test_a_point_beside_an_autoguide_has_no_density():
    model, _, x = pyro_programs.local_autonormal()
    guide = pyro.infer.autoguide.AutoGuideList(model)
    guide.append(pyro.infer.autoguide.AutoNormal(pyro.poutine.block(model, expose=["z"])))
    guide.append(pyro.infer.autoguide.AutoDelta(pyro.poutine.block(model, expose=["s"])))
    guide(x)
    for evaluate in (elbo_parts, partial(score, samples=3), partial(score, samples=1), partial(decompose, samples=3)):
        with pytest.raises(ValueError, match="'s' is a Delta"):
            evaluate(model, guide, x)


def oriented(transpose):
    """One linear model with pixels as an event, or in a plate at dim -1 within images at dim -2."""

    def model(x):
        with pyro.plate("images", len(x), dim=-2 if transpose else -1):
            z = pyro.sample("z", dist.Gamma(2.0 * torch.ones(2), 1.0).to_event(1))
            if not transpose:
                mean = z.sum(-1, keepdim=True).expand(*z.shape[:-1], 3)
                return pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)
            with pyro.plate("pixels", 3, dim=-1):
                return pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    def guide(x):
        with pyro.plate("images", len(x), dim=-2 if transpose else -1):
            loc = x[:, None, :2] if transpose else x[:, :2]
            pyro.sample("z", dist.LogNormal(0.3 * loc, 0.5).to_event(1))

    return model, guide


@pytest.mark.parametrize(
    "compute",
    [
        lambda model, guide, x: score(model, guide, x, samples=30, rows=50).log_likelihood,
        lambda model, guide, x: decompose(model, guide, x, samples=30).elbo.values,
        lambda model, guide, x: posterior_draws(model, guide, x, 10).values["z"].flatten(2),
        lambda model, guide, x: posterior_draws(model, guide, x, 10).log_likelihood,
        lambda model, guide, x: active_units(model, guide, x)["z"].variance.flatten(),
        lambda model, guide, x: gaps(model, guide, x, samples=20, steps=5).optimised.values,
        lambda model, guide, x: ais(model, x, chains=4, temperatures=10).log_likelihood,
        lambda model, guide, x: list(elbo_parts(model, guide, x).values()),
        lambda model, guide, x: IWAE(4).differentiable_loss(model, guide, x),
    ],
    ids=["score", "decompose", "draws", "likelihoods", "active_units", "gaps", "ais", "elbo_parts", "IWAE"],
)
def test_the_dimension_of_the_plate_of_images_changes_nothing(compute):
    x, results = torch.randn(8, 3), []
    for transpose in (False, True):
        torch.manual_seed(0)
        results.append(torch.as_tensor(compute(*oriented(transpose), x)))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_bidirectional_bounds_with_images_at_dim_minus_two():
    def model(x=None, batch=1):
        with pyro.plate("images", batch if x is None else len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            with pyro.plate("pixels", 3, dim=-1):
                return pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    bounds = bdmc(model, images=6, chains=16, temperatures=100)
    covariance = torch.eye(3) + 2 * torch.ones(3, 3)
    exact = dist.MultivariateNormal(torch.zeros(3), covariance).log_prob(bounds.images).double()
    assert (bounds.lower - exact).abs().max() < 0.3 and (bounds.upper - exact).abs().max() < 0.3
    with pytest.raises(TypeError, match=r"model\(batch=3\) failed .* bdmc needs a model that samples"):
        bdmc(pyro_programs.vae().model, images=3)


@pytest.mark.parametrize("rows", [4096, 20])
def test_data_that_programs_close_over_is_that_of_all_images(rows):
    """The same networks, given y beside x in one tensor."""
    case = pyro_programs.closure()
    held = inspect.getclosurevars(case.model).nonlocals | inspect.getclosurevars(case.guide).nonlocals
    y, decoder, encoder = held["y"], held["decoder"], held["encoder"]

    def model(xy):
        with pyro.plate("images", len(xy)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            logits = decoder(torch.cat([z, xy[:, 6:].expand(*z.shape[:-1], -1)], -1))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=xy[:, :6])

    def guide(xy):
        with pyro.plate("images", len(xy)):
            pyro.sample("z", dist.Normal(encoder(xy), 0.7).to_event(1))

    expected = score(model, guide, torch.cat([case.images, y], 1), samples=30, rows=4096).log_likelihood
    torch.testing.assert_close(score(*case, samples=30, rows=rows).log_likelihood, expected)


@pytest.mark.parametrize("program", ["dmm", "masked_and_scaled"])
def test_masks_count_alike_in_every_function(program):
    case = getattr(pyro_programs, program)()
    by_weights = score(*case, samples=4000)
    parts = decompose(*case, samples=4000)
    spread = torch.cat(list(log_weights(*case, 200))).std(0).max().item()
    assert (parts.elbo.values - by_weights.elbo).abs().max() < 6 * spread / 4000**0.5
    with seeded(1):
        values = [elbo_parts(*case)["elbo"] for _ in range(200)]
    assert sum(values) / 200 == pytest.approx(parts.elbo.mean.item(), abs=6 * spread / (12 * 200) ** 0.5)


def linear(plate):
    def model(x):
        with plate(x):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with plate(x):
            pyro.sample("z", dist.Normal(0.3 * x, 1.0).to_event(1))

    return model, guide


@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_iwae_has_the_scale_of_a_plate_outside_the_logarithm(samples, weight):
    x, losses = torch.randn(20, 1), []
    for plate in (
        lambda x: pyro.plate("images", len(x)),
        lambda x: pyro.plate("images", 1000, subsample=torch.arange(len(x))),
        lambda x: pyro.plate("images", 1000, subsample_size=len(x)),
    ):
        scaled = ScaleLatents(torch.tensor(weight))
        programs = [scaled(program) for program in linear(plate)]
        torch.manual_seed(3)  # a random subsample takes numbers of its own, so that only means are equal
        losses.append(sum(IWAE(samples).differentiable_loss(*programs, x).item() for _ in range(400)) / 400)
    assert losses[1] == pytest.approx(50 * losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(50 * losses[0], rel=0.02)
    if weight == 1.0:  # Σ_x E log 1/K Σ w, by other samples
        model, guide = linear(lambda x: pyro.plate("images", len(x)))
        log_w = torch.cat(list(log_weights(model, guide, x, samples * 2000)))
        expected = (log_w.unflatten(0, (2000, samples)).logsumexp(1) - math.log(samples)).mean(0).sum().item()
        assert losses[0] == pytest.approx(-expected, rel=0.02)


def test_pixels_that_are_subsampled_have_no_likelihood():
    def model(x):
        with pyro.plate("images", len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            with pyro.plate("pixels", 6, subsample_size=3, dim=-1) as index:
                pyro.sample("x", dist.Normal(z.squeeze(-1), 1.0), obs=x[:, index])

    def guide(x):
        with pyro.plate("images", len(x), dim=-2):
            pyro.sample("z", dist.Normal(x[:, None, :1], 1.0).to_event(1))

    x = torch.randn(4, 6)
    for compute in (IWAE(3).differentiable_loss, elbo_parts, partial(score, samples=3), partial(decompose, samples=3)):
        with pytest.raises(ValueError, match="'pixels' takes 3 of 6 parts of an image: leave out subsample_size"):
            compute(model, guide, x)
    with pytest.raises(ValueError, match="'pixels' takes 3 of 6"):
        ais(model, x)


def test_a_latent_that_only_the_model_enumerates_is_summed_inside_the_logarithm():
    locs = torch.tensor([-1.0, 2.0], requires_grad=True)

    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.3, 0.7])), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(locs[k], 1.0), obs=x)

    x = torch.randn(11)
    mixture = dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.3, 0.7])), dist.Normal(locs, 1.0))
    loss = TraceEnum_ELBO().differentiable_loss(model, lambda x: None, x)
    torch.testing.assert_close(loss, -mixture.log_prob(x).sum())


def test_enumeration_with_images_at_dim_minus_two():
    def programs(transpose):
        def model(x):
            with pyro.plate("images", len(x), dim=-2 if transpose else -1):
                k = pyro.sample("k", dist.Categorical(torch.tensor([0.3, 0.7])))
                if not transpose:
                    mean = k.unsqueeze(-1) * torch.ones(3)
                    return pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)
                with pyro.plate("pixels", 3, dim=-1):
                    return pyro.sample("x", dist.Normal(1.0 * k, 1.0), obs=x)

        def guide(x):
            with pyro.plate("images", len(x), dim=-2 if transpose else -1):
                logits = torch.stack([x.sum(-1), -x.sum(-1)], -1).requires_grad_()
                pyro.sample("k", dist.Categorical(logits=logits.unsqueeze(-2) if transpose else logits))

        return model, guide

    x = torch.randn(5, 3)
    flat, tall = (TraceEnum_ELBO().differentiable_loss(*programs(transpose), x) for transpose in (False, True))
    torch.testing.assert_close(flat, tall)


def test_a_point_estimate_is_validated_by_its_objective_under_plain_functions():
    def model(x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Delta(x / 2))

    x = torch.randn(7)
    expected = (dist.Normal(0.0, 1.0).log_prob(x / 2) + dist.Normal(x / 2, 1.0).log_prob(x)).mean().item()
    assert validation(model, guide, x)["objective"] == pytest.approx(expected, rel=1e-5)


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.flow = dist.transforms.affine_autoregressive(2, hidden_dims=[4])

    def forward(self, x):
        with pyro.plate("images", len(x)):
            base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
            z = pyro.sample("z", dist.TransformedDistribution(base, [self.flow]))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def test_a_prior_through_pyros_own_flow_is_scored_in_its_own_precision():
    model, x = Flow(), torch.randn(6, 2)

    def guide(x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 1.0).to_event(1))

    assert score(model, guide, x, samples=2000).log_likelihood.isfinite().all()
    annealed = ais(model, x, chains=32, temperatures=100).log_likelihood
    assert (annealed - score(model, guide, x, samples=20000).log_likelihood).abs().max() < 0.3


def test_a_low_rank_normal_is_scored_in_its_own_precision():
    """z ~ N(0, FF' + D), x ~ N(z, 1): the weights are Pyro's own, and log p(x) is in closed form."""
    factor, x = torch.tensor([[1.0], [0.5], [-1.0]]), torch.randn(5, 3)

    def model(x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.LowRankMultivariateNormal(torch.zeros(3), factor, torch.ones(3)))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.LowRankMultivariateNormal(0.5 * x, 0.5 * factor, 0.5 * torch.ones(3)))

    torch.manual_seed(1)
    expected, *_ = vectorized_importance_weights(model, guide, x, num_samples=7, max_plate_nesting=1)
    torch.manual_seed(1)
    ours = torch.cat(list(log_weights(model, guide, x, 7))).sum(1).float()
    torch.testing.assert_close(ours, expected, rtol=0, atol=5e-5)
    truth = dist.MultivariateNormal(torch.zeros(3), factor @ factor.T + 2 * torch.eye(3)).log_prob(x).double()
    torch.testing.assert_close(score(model, guide, x, 5000).log_likelihood, truth, rtol=0, atol=0.05)
    annealed = ais(model, x, chains=64, temperatures=100)
    assert ((annealed.log_likelihood - truth).abs() < 4 * annealed.error + 1e-3).all()
    assert surgery(model, guide, x).kl.values.isfinite().all()
    assert gaps(model, guide, x, samples=100, steps=50).optimised.values.isfinite().all()


def counts(rate):
    return dist.Poisson(rate)


def amounts(rate):
    return dist.Gamma(2.0, 1 / rate)


@pytest.mark.filterwarnings("ignore:TraceEnum_ELBO found no sample sites")
@pytest.mark.parametrize("kind", [counts, amounts])
@pytest.mark.parametrize("enumerated", [True, False])
def test_enumeration_beside_sampled_latents_is_pyros_own(kind, enumerated):
    """A latent that is sampled and not reparameterised has its score-function term."""
    rate, logits = torch.tensor(1.5, requires_grad=True), torch.tensor([0.2, -0.1, 0.3], requires_grad=True)
    x = torch.randn(5)

    def program(rate, logits, x, obs):
        with pyro.plate("images", len(x)):
            mean = pyro.sample("n", kind(rate)).float()
            if enumerated:
                mean = mean + pyro.sample("k", dist.Categorical(logits=logits))
            if obs is not None:
                pyro.sample("x", dist.Normal(mean, 1.0), obs=obs)

    def model(x):
        program(torch.tensor(2.0), torch.zeros(3), x, x)

    def guide(x):
        program(rate, logits, x, None)

    found = []
    for objective in (TraceEnum_ELBO(), TraceEnum_ELBO().reference()):
        objective.max_plate_nesting = 1
        torch.manual_seed(0)
        loss = objective.differentiable_loss(model, guide, x)
        found.append([loss, *torch.autograd.grad(loss, (rate, logits)[: 1 + enumerated])])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_programs_without_latents_have_their_likelihood_as_their_score():
    def model(x):
        with pyro.plate("images", len(x)):
            pyro.sample("x", dist.Normal(0.5, 1.0), obs=x)

    def guide(x):
        pass

    x = torch.randn(5)
    exact = dist.Normal(0.5, 1.0).log_prob(x).double()
    torch.testing.assert_close(score(model, guide, x, 30).log_likelihood, exact)
    torch.testing.assert_close(torch.cat(list(log_weights(model, guide, x, 3))), exact.expand(3, 5))
    for compute in (posterior_draws, surgery, lambda model, guide, x: ais(model, x)):
        with pytest.raises(ValueError, match="no latent site"):
            compute(model, guide, x)


def test_surgery_is_about_one_prior_of_all_images():
    def model(x, given=True):
        with pyro.plate("images", len(x)):
            mixture = Mixture(DiagonalNormal(torch.arange(3.0)[:, None], torch.ones(3, 1)))
            z = pyro.sample("z", dist.Normal(x[:, None], 1.0).to_event(1) if given else mixture)
            pyro.sample("x", dist.Normal(z[..., 0], 1.0), obs=x)

    def guide(x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Normal(x[:, None], 1.0).to_event(1))

    x = torch.randn(5)
    with pytest.raises(ValueError, match="the prior of 'z' depends on the image"):
        surgery(model, guide, x)
    shared = partial(model, given=False)
    assert component_use(shared, guide, x).use.sum().item() == pytest.approx(1.0)
    parts, apart = surgery(shared, guide, x, samples=4000), decompose(shared, guide, x, samples=4000)
    torch.testing.assert_close(parts.kl.values, apart.kl["z"].values, rtol=0, atol=0.1)


@pytest.mark.parametrize("images", [1, 6])
def test_a_baseline_serves_images_at_any_dimension(images):
    weights, baseline = torch.tensor([0.3, -0.2], requires_grad=True), nn.Linear(3, 2)

    def programs(transpose):
        def draw(logits):
            return pyro.sample("b", dist.Bernoulli(logits=logits[0])), pyro.sample(
                "c", dist.Bernoulli(logits=logits[1])
            )

        def model(x):
            with pyro.plate("images", len(x), dim=-2 if transpose else -1):
                b, c = draw(torch.tensor([0.4, -0.3]))
                if not transpose:
                    return pyro.sample("x", dist.Normal((2 * b + c)[:, None] * torch.ones(3), 1.0).to_event(1), obs=x)
                with pyro.plate("pixels", 3, dim=-1):
                    return pyro.sample("x", dist.Normal(2 * b + c, 1.0), obs=x)

        def guide(x):
            with pyro.plate("images", len(x), dim=-2 if transpose else -1):
                draw([weight * x.sum(-1, keepdim=transpose) for weight in weights])

        return model, guide

    x, found = torch.randn(images, 3), []
    for transpose in (False, True):
        torch.manual_seed(0)
        loss = TraceGraph_ELBO(baseline).differentiable_loss(*programs(transpose), x)
        found.append([loss, *torch.autograd.grad(loss, [weights, *baseline.parameters()])])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("images", [1, 2, 3, 4])
@pytest.mark.parametrize("patches", [1, 3])
def test_a_plate_around_the_images_may_have_as_many_elements(images, patches):
    """x ~ N(z, 1), z ~ N(0, 1) for every patch: log p(x) is the sum of log N(x; 0, 2) over the patches of an image."""

    def model(x):
        with pyro.plate("patches", patches, dim=-2), pyro.plate("images", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x.T)

    def guide(x):
        with pyro.plate("patches", patches, dim=-2), pyro.plate("images", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x.T / 2, 0.5**0.5))  # the posterior: every weight is p(x)

    x = torch.randn(images, patches)
    exact = dist.Normal(0.0, 2**0.5).log_prob(x).sum(1).double()
    torch.testing.assert_close(score(model, guide, x, 5).log_likelihood, exact, rtol=0, atol=1e-5)
    loss = IWAE(3).differentiable_loss(model, guide, x)
    torch.testing.assert_close(loss.double(), -exact.sum(), rtol=0, atol=1e-4)
