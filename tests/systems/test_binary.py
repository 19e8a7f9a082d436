"""Binary latents: densities against sums over all codes, gradients against the exact ones."""

import json

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceGraph_ELBO as StockGraph
from torch import nn
from vampyro.priors import StandardBernoulli, StandardNormal

from tests.cli.test_train import assert_same, call
from tests.helpers import Waits, as_trained, build_part, gap
from vampyro import nets
from vampyro.catalogue import specs
from vampyro.catalogue.assemble import assemble
from vampyro.diagnostics import decompose, gaps, surgery
from vampyro.distributions import BernoulliVector, DiagonalNormal, Mixture
from vampyro.likelihood import score
from vampyro.likelihood.scores import relative_error
from vampyro.objectives import (
    IWAE,
    Relaxed,
    ScaleLatents,
    StraightThrough,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from vampyro.training import make_update

SHAPE, BITS = (1, 4, 5), 3
each_model = pytest.mark.parametrize("model", ["vae", "two-level"])
each_prior = pytest.mark.parametrize("prior", ["standard", "vamp:3:weighted"])


def programs(model="vae", prior="standard", bits=BITS, dtype=torch.float64, norm=1.0):
    torch.manual_seed(0)
    model, guide = assemble(
        model=model, prior=prior, posterior="bernoulli", hidden=(8,), latent=bits, shape=SHAPE, activation="tanh"
    )
    both = as_trained(nn.ModuleList([model, guide]), norm).to(dtype)
    return model, guide, both, torch.rand(7, *SHAPE).round().to(dtype)


def codes(bits, dtype=torch.float64):
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=dtype)] * bits).reshape(-1, bits)


def exact_elbo(model, guide, x, weight=1.0, levels=False):
    """Σ_z q(z | x) (log p(x | z) + weight (log p(z) - log q(z | x))), summed over images, and log p(x): by hand."""
    z = codes(BITS).unsqueeze(1)
    if not levels:
        q, p = guide.q(x).log_prob(z), model.prior().log_prob(z)
        seen = model.decoder(z).log_prob(x)
        return (q.exp() * (seen + weight * (p - q))).sum(), (p + seen).logsumexp(0)
    z2, z1 = z.unsqueeze(1), z.unsqueeze(0)  # (2^D, 1, 1, D) and (1, 2^D, 1, D)
    q = guide.upper.q(x).log_prob(z2) + guide.lower.q((x, z2)).log_prob(z1)
    p = model.prior().log_prob(z2) + model.middle(z2).log_prob(z1)
    seen = model.decoder((z1, z2)).log_prob(x)
    return (q.exp() * (seen + weight * (p - q))).sum(), (p + seen).flatten(0, 1).logsumexp(0)


def gradients(loss, both):
    found = torch.autograd.grad(loss, list(both.parameters()), allow_unused=True, materialize_grads=True)
    return dict(zip((name for name, _ in both.named_parameters()), found))


def baseline():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(-3), nn.Linear(20, 2)).double()


# The distribution.


def test_the_density_sums_to_one_and_is_that_of_bits():
    logits = 3 * torch.randn(5, 4).double()
    q, z = BernoulliVector(logits), codes(4)
    torch.testing.assert_close(q.log_prob(z.unsqueeze(1)).logsumexp(0), torch.zeros(5).double(), rtol=0, atol=1e-12)
    by_hand = dist.Bernoulli(logits=logits).log_prob(z.unsqueeze(1).expand(-1, 5, -1)).sum(-1)
    torch.testing.assert_close(q.log_prob(z.unsqueeze(1)), by_hand)
    assert torch.equal(q.enumerate_support()[:, 0], z) and q.enumerate_support(expand=False).shape == (16, 1, 4)


def test_samples_are_bits_with_the_right_means_and_correlations():
    q = BernoulliVector(torch.tensor([-2.0, 0.0, 3.0]))
    z = q.sample((40_000,))
    assert set(z.unique().tolist()) == {0.0, 1.0}
    error = (q.mean * (1 - q.mean) / len(z)).sqrt()
    assert ((z.mean(0) - q.mean).abs() < 4 * error).all()
    assert (z.T.corrcoef() - torch.eye(3)).abs().max() < 4 / len(z) ** 0.5


@pytest.mark.parametrize("shape", [(), (6,), (2, 6)])
def test_pairwise_is_the_direct_form(shape):
    logits = (4 * torch.randn(50, 30).double()).requires_grad_()
    q, z = BernoulliVector(logits), torch.rand(*shape, 30).round().double()
    pairwise, direct = q.pairwise_log_prob(z), q.log_prob(z.unsqueeze(-2))
    assert pairwise.shape == (*shape, 50) and gap(pairwise, direct) < 1e-10
    ours, theirs = (torch.autograd.grad(t.logsumexp(-1).sum(), logits)[0] for t in (pairwise, direct))
    assert gap(ours, theirs) < 1e-12


def test_a_float32_mixture_scores_float64_bits_in_float64():
    logits = 8 * torch.randn(500, 200)
    q, exact = BernoulliVector(logits), BernoulliVector(logits.double())
    z = exact.sample()[:60]
    by_hand = exact.log_prob(z.unsqueeze(1)).logsumexp(-1) - torch.tensor(500.0).double().log()
    with torch.no_grad():
        assert gap(Mixture(q).log_prob(z), by_hand) < 1e-7  # its exponentials are float32's
        assert gap(Mixture(q).log_prob(z.float()).double(), by_hand) < 2e-3
    assert gap(Mixture(q).log_prob(z), by_hand) < 1e-10


def test_kl_in_closed_form_is_the_sum():
    a, b = (BernoulliVector(5 * torch.randn(7, 4).double()) for _ in range(2))
    z = codes(4).unsqueeze(1)
    summed = (a.log_prob(z).exp() * (a.log_prob(z) - b.log_prob(z))).sum(0)
    assert gap(torch.distributions.kl_divergence(a, b), summed) < 1e-11
    sure = BernoulliVector(torch.tensor([[100.0, -100.0]]))
    assert torch.distributions.kl_divergence(sure, StandardBernoulli(2)()).item() == pytest.approx(2 * 0.693147, 1e-6)


def test_a_standard_prior_is_chosen_by_the_posterior():
    for posterior, prior, middle in [
        ("normal", StandardNormal, DiagonalNormal),
        ("bernoulli", StandardBernoulli, BernoulliVector),
    ]:
        model, _ = assemble(model="two-level", posterior=posterior, hidden=(8,), latent=3, shape=SHAPE)
        assert isinstance(model.prior, prior) and isinstance(model.middle(torch.zeros(3)), middle)


# Gradients.


@each_model
@each_prior
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_enumeration_is_the_exact_sum(model, prior, weight):
    levels = model == "two-level"
    model, guide, both, x = programs(model, prior)
    scaled = ScaleLatents(torch.tensor(weight, dtype=torch.float64))
    exact, _ = exact_elbo(model, guide, x, weight, levels)
    for objective in (TraceEnum_ELBO(), TraceEnum_ELBO().reference()):
        loss = objective.differentiable_loss(scaled(model), scaled(guide), x)
        assert loss.item() == pytest.approx(-exact.item(), rel=1e-12)
        ours, theirs = gradients(loss, both), gradients(-exact, both)
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-9, atol=1e-10, msg=name)
        exact, _ = exact_elbo(model, guide, x, weight, levels)


def bias(objective, exact, model, guide, both, x, chunks=40, copies=100, only=""):
    """How far the mean gradient is from the exact one, in standard errors: along a few directions of each program."""
    names = [name for name, _ in both.named_parameters() if name.startswith(only)]
    torch.manual_seed(5)
    directions = {name: torch.randn(6, *p.shape, dtype=p.dtype) for name, p in both.named_parameters()}

    def along(found):
        """(2 programs × 6,)."""
        parts = {"0": 0.0, "1": 0.0}
        for name in names:
            parts[name[0]] = parts[name[0]] + (directions[name] * found[name]).flatten(1).sum(-1)
        return torch.cat([part for part in parts.values() if isinstance(part, torch.Tensor)])

    many = x.repeat(copies, 1, 1, 1)
    draws = torch.stack(
        [along(gradients(objective.differentiable_loss(model, guide, many) / copies, both)) for _ in range(chunks)]
    )
    return (draws.mean(0) - along(gradients(-exact, both))) / (draws.std(0) / chunks**0.5)


@each_model
@each_prior
@pytest.mark.parametrize("analytic", [False, True])
def test_the_score_function_is_unbiased(model, prior, analytic):
    levels = model == "two-level"
    model, guide, both, x = programs(model, prior)
    exact, _ = exact_elbo(model, guide, x, levels=levels)
    assert bias(TraceGraph_ELBO(baseline(), analytic), exact, model, guide, both, x).abs().max() < 4


@each_model
@each_prior
def test_the_models_gradient_is_unbiased_when_relaxed(model, prior):
    """Decoder, middle, pseudo-inputs; not the guide's, which is off by more than any chance."""
    levels = model == "two-level"
    parts = programs(model, prior)
    exact, _ = exact_elbo(*parts[:2], parts[3], levels=levels)
    objective = Relaxed(TraceMeanField_ELBO())
    if prior == "standard":
        assert bias(objective, exact, *parts, only="0.").abs().max() < 4
        exact, _ = exact_elbo(*parts[:2], parts[3], levels=levels)
        assert bias(objective, exact, *parts, only="1.").abs().max() > 8
    else:  # of a VampPrior what it borrows is the guide's
        assert bias(objective, exact, *parts, only="0.").abs().max() < 4


class Polynomial(nn.Module):
    """A program with log p(x | z) = Σ_d a_d(x) z_d^power + 2 Σ_d<e z_d z_e."""

    def __init__(self, power):
        super().__init__()
        self.prior, self.power = StandardBernoulli(BITS).double(), power
        self.linear = nn.Linear(20, BITS).double()

    def seen(self, x, z):
        pairs = z[..., 0] * z[..., 1] + z[..., 0] * z[..., 2] + z[..., 1] * z[..., 2]
        return (self.linear(x.flatten(-3)) * z**self.power).sum(-1) + 2 * pairs

    def forward(self, x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", self.prior())
            pyro.factor("x", self.seen(x, z))

    def elbo(self, guide, x):
        z = codes(BITS).unsqueeze(1)
        q = guide.q(x).log_prob(z)
        return (q.exp() * (self.seen(x, z) + self.prior().log_prob(z) - q)).sum()


@pytest.mark.parametrize("objective", [Trace_ELBO(), TraceMeanField_ELBO()])
@pytest.mark.parametrize(("power", "exact"), [(1, True), (2, True), (3, False)])
def test_straight_through_is_exact_for_quadratics_of_each_bit(power, exact, objective):
    """z = z² = z³ for a bit, but their derivatives are another's."""
    _, guide, _, x = programs()
    torch.manual_seed(1)
    model = Polynomial(power)
    both = nn.ModuleList([model, guide])
    off = bias(Relaxed(objective), model.elbo(guide, x), model, guide, both, x).abs().max()
    assert off < 4 if exact else off > 8


@each_model
def test_relaxing_changes_no_value(model):
    model, guide, both, x = programs(model, "vamp:3")
    losses = []
    for objective in (Trace_ELBO(), Relaxed(Trace_ELBO()), TraceGraph_ELBO(baseline())):
        torch.manual_seed(1)
        losses.append(objective.differentiable_loss(model, guide, x).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-13) == pytest.approx(losses[2], rel=1e-13)
    trace = pyro.poutine.trace(StraightThrough()(guide)).get_trace(x)
    for name in {"z", "z1", "z2"} & set(trace.nodes):
        value = trace.nodes[name]["value"]
        assert value.requires_grad and set(value.unique().tolist()) <= {0.0, 1.0}
        assert trace.nodes[name]["fn"].has_rsample


def test_what_is_reparameterised_is_left_alone():
    model, guide = assemble(hidden=(8,), latent=3, shape=SHAPE)
    trace = pyro.poutine.trace(StraightThrough()(guide)).get_trace(torch.zeros(2, *SHAPE))
    assert isinstance(trace.nodes["z"]["fn"], DiagonalNormal)


def test_without_closed_forms_the_score_is_pyros_own_with_that_baseline():
    model, guide, both, x = programs()
    ours = baseline()

    def stock_guide(x):
        with pyro.plate("images", len(x)):
            infer = {"baseline": {"nn_baseline": lambda x: ours(x)[:, 0], "nn_baseline_input": x}}
            pyro.sample("z", guide.q(x), infer=infer)

    parts = nn.ModuleList([model, guide, ours])
    torch.manual_seed(1)
    found = gradients(TraceGraph_ELBO(ours).differentiable_loss(model, guide, x), parts)
    torch.manual_seed(1)
    parts.zero_grad()
    StockGraph().loss_and_grads(model, stock_guide, x)
    for name, p in parts.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-10, atol=1e-12, msg=name)
    assert found["2.1.weight"].abs().sum() > 0


@each_model
def test_the_score_function_of_one_image_is_that_by_hand(model):
    """Each latent's score is weighed with what depends on the latent, less its baseline."""
    levels = model == "two-level"
    model, guide, both, x = programs(model, "standard")
    x, ours = x[:1], baseline()
    parts = nn.ModuleList([model, guide, ours])
    torch.manual_seed(1)
    found = gradients(TraceGraph_ELBO(ours).differentiable_loss(model, guide, x), parts)
    torch.manual_seed(1)
    q = pyro.poutine.trace(guide).get_trace(x)
    p = pyro.poutine.trace(pyro.poutine.replay(model, q)).get_trace(x)
    q.compute_log_prob(), p.compute_log_prob()
    cost = {name: p.nodes[name]["log_prob"] - q.nodes[name]["log_prob"] for name in (["z2", "z1"] if levels else ["z"])}
    surrogate, rest = -p.log_prob_sum(), p.nodes["x"]["log_prob"]
    for column, name in reversed(list(enumerate(cost))):
        rest = rest + cost[name]
        advantage = rest.detach() - ours(x)[:, column]
        score = q.nodes[name]["log_prob"]
        surrogate = surrogate - (score * advantage.detach()).sum() + advantage.square().sum()
    truth = gradients(surrogate, parts)
    for name in truth:
        torch.testing.assert_close(found[name], truth[name], rtol=1e-9, atol=1e-10, msg=name)
    assert found["2.1.weight"].abs().sum() > 0


@pytest.mark.parametrize(
    ("objective", "engine"),
    [("elbo:score", "svi"), ("elbo:score", "eager"), ("elbo:analytic:score", "eager"), ("elbo:score", "compiled")],
)
def test_a_short_last_batch_of_one_image_trains(objective, engine):
    spec = specs.parse("objective", objective)
    model, guide = assemble(posterior="bernoulli", hidden=(8,), latent=BITS, shape=SHAPE)
    update = make_update(model, guide, objective=build_part("objective", spec, SHAPE), engine=engine)
    assert all(update(torch.zeros(count, *SHAPE))["loss"].isfinite() for count in (3, 1, 1, 3))


def test_a_step_trains_the_baseline():
    model, guide, _, x = programs(dtype=torch.float32)
    objective = TraceGraph_ELBO(nets.Baseline(SHAPE, 2))
    update = make_update(model, guide, objective=objective, lr=3e-2)
    with torch.no_grad():
        before = objective.baseline(x)[:, 0]
    for _ in range(60):
        update(x)
    with torch.no_grad():
        elbo = -TraceEnum_ELBO().differentiable_loss(model, guide, x) / len(x)
        after = objective.baseline(x)[:, 0]
    assert (after.mean() - elbo).abs() < 0.2 * (before.mean() - elbo).abs()


@pytest.mark.parametrize("engine", ["svi", "eager"])
def test_what_the_objective_learnt_is_saved_with_the_step(engine):
    results = []
    for stop in (False, True):
        model, guide, both, x = programs(dtype=torch.float32)
        torch.manual_seed(4)
        update = make_update(model, guide, objective=TraceGraph_ELBO(nets.Baseline(SHAPE, 2)), engine=engine, lr=1e-2)
        for step in range(4):
            if stop and step == 2:
                state = {"both": both.state_dict(), "update": update.state_dict()}
                model, guide, both, _ = programs(dtype=torch.float32)
                fresh = TraceGraph_ELBO(nets.Baseline(SHAPE, 2))
                update = make_update(model, guide, objective=fresh, engine=engine, lr=1e-2)
                both.load_state_dict(state["both"]), update.load_state_dict(state["update"])
            torch.manual_seed(step)
            update(x)
        results.append([p.detach().clone() for p in update.program.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results))


# Scoring.


@each_model
@each_prior
def test_importance_sampling_finds_the_exact_likelihood(model, prior):
    levels = model == "two-level"
    model, guide, _, x = programs(model, prior)
    _, exact = exact_elbo(model, guide, x, levels=levels)
    result = score(model, guide, x, samples=20_000, exact=False)
    error = relative_error(result.ess, 20_000)  # these guides reach every code
    assert ((result.log_likelihood - exact).abs() < 5 * error + 1e-9).all()
    assert (result.log_likelihood - result.elbo).mean() > 0.1, "this test sees nothing"


@each_prior
def test_the_elbo_taken_apart_is_exact(prior):
    model, guide, _, x = programs(prior=prior)
    exact, _ = exact_elbo(model, guide, x)
    parts = decompose(model, guide, x, samples=4000)
    assert (parts.elbo.mean - exact / len(x)).abs() < 4 * parts.elbo.error
    if prior == "standard":
        per_dimension = parts.kl_per_dimension["z"].mean.sum()
        assert per_dimension.item() == pytest.approx(parts.kl["z"].mean.item(), rel=1e-6)
        assert parts.kl["z"].error < 1e-6
    cut = surgery(model, guide, x, samples=50)
    assert 0 <= cut.mutual_information.mean <= cut.log_images + 1e-6


def test_what_needs_a_gradient_of_the_latents_says_so():
    model, guide, _, x = programs(dtype=torch.float32)
    with pytest.raises(ValueError, match="only reparameterised sites can be optimised"):
        gaps(model, guide, x, samples=20, steps=1)
    with pytest.raises(ValueError, match="iwae needs reparameterised sites"):
        IWAE(2).differentiable_loss(model, guide, x)
    with pytest.raises(ValueError, match="13 bits have 2.13 values"):
        BernoulliVector(torch.zeros(13)).enumerate_support()


# From the command line.


def command(dataset, out, *more):
    flags = ["--hidden", "16,12", "--latent", "6", "--posterior", "bernoulli", "--batch-size", 32, "--cooldown", 0]
    return call("--dataset", dataset, *flags, "--samples", 20, "--device", "cpu", "--out", out, *more)


def test_a_run_trains_relaxed_and_is_measured(dataset, tmp_path, capsys):
    assert command(dataset, tmp_path / "a", "--prior", "vamp:4", "--epochs", 2) is None
    assert json.loads((tmp_path / "a" / "config.json").read_text())["objective"] == "elbo:relaxed"
    few = ["--temperatures", 5, "--device", "cpu"]
    status = call("score", tmp_path / "a", "--measures", "elbo,prior,samples,ais,gaps", *few)
    assert status == "error: not measured: gaps"
    printed = capsys.readouterr().out
    assert "the sum is exact" in printed and "only reparameterised sites can be optimised" in printed
    measured = json.loads((tmp_path / "a" / "results.json").read_text())["measures"]["own"]
    assert {name for name in measured if "not measured" in measured[name]} == {"gaps"}
    assert len(measured["elbo"]["active_units"]) == 1


def test_a_learned_baseline_goes_on_where_it_was(dataset, tmp_path):
    score_function = ["--objective", "elbo:analytic:score"]
    assert command(dataset, tmp_path / "whole", *score_function, "--epochs", 4) is None
    assert command(dataset, tmp_path / "parts", *score_function, "--epochs", 2) is None
    assert call("--resume", tmp_path / "parts", "--epochs", 4) is None
    states = [torch.load(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts")]
    for part in ("program", "update"):
        assert_same(*(state[part] for state in states))
    assert states[0]["update"]["objective"]["0.baseline.linear.weight"].shape == (2, 100)


@pytest.mark.parametrize("objective", ["elbo:relaxed", "elbo:analytic:relaxed", "elbo:score", "elbo:enumerate"])
@each_prior
def test_a_step_never_waits_for_the_device(objective, prior):
    model, guide, _, x = programs(prior=prior, dtype=torch.float32)
    spec = specs.parse("objective", objective)
    update = make_update(model, guide, objective=build_part("objective", spec, SHAPE))
    update(x)  # the first runs under validation
    with Waits() as waits:
        update(x)
    assert waits.count == 0


def test_as_many_bits_are_summed_out_as_are_allowed():
    """Two packages define the limit, as the catalogue does not import torch."""
    from vampyro.catalogue.compatibility import MAX_BITS
    from vampyro.distributions import bernoulli

    assert bernoulli.MAX_BITS == MAX_BITS
