"""VQ-VAE: distributions over vectors of codes by enumeration, a codebook against k-means, gradients by hand."""

import itertools
import json
import math

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI
from pyro.infer import Trace_ELBO as Stock
from pyro.infer import TraceMeanField_ELBO as StockMeanField
from torch import nn
from vampyro.priors import AutoregressivePrior, UniformCodes

from tests.cli.test_train import call, train
from tests.helpers import Waits, as_trained
from vampyro.catalogue.assemble import assemble, ex_post
from vampyro.catalogue.saving import load
from vampyro.diagnostics import code_use, decompose, gaps, surgery
from vampyro.distributions import AutoregressiveCodes, Codes, Mixture, Quantised
from vampyro.likelihood import score
from vampyro.likelihood.scores import relative_error
from vampyro.nets import Learner, VectorQuantiser
from vampyro.nets.quantiser import COMMITMENT, DEAD, DECAY
from vampyro.objectives import IWAE, ScaleLatents, Trace_ELBO, TraceMeanField_ELBO
from vampyro.programs import compile as staged
from vampyro.programs.modes import evaluation_mode
from vampyro.training import elbo_parts, make_update, register
from vampyro.training.distributed import ProcessError, Processes
from vampyro.training.engines.codebook_update import UpdateLearners
from vampyro.training.engines.cuda_graph import GraphStep, _Recording

SHAPE, M, K, D = (1, 4, 5), 3, 5, 4


def images(count=7):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(2)).round()


def programs(prior="autoregressive", codes=K, positions=M, **parts):
    model, guide = assemble(
        posterior=f"vq:{codes}", prior=prior, hidden=(8,), latent=positions * D, shape=SHAPE, **parts
    )
    both = nn.ModuleList([model, guide])
    as_trained(both, norm=1.0)
    return model, guide, both


def every_vector(codebook, positions=M):
    """(K^M, M·d), and the indices (K^M, M)."""
    index = torch.tensor(list(itertools.product(range(len(codebook)), repeat=positions)))
    return codebook[index].flatten(-2), index


def distribution(kind):
    codebook = torch.randn(K, 2)
    if kind == "independent":
        return Codes(2 * torch.randn(M, K), codebook)
    prior = as_trained(AutoregressivePrior(lambda: codebook, M), norm=4.0)
    return prior() if kind == "autoregressive" else UniformCodes(lambda: codebook, M)()


KINDS = ["independent", "autoregressive", "uniform"]
each_kind = pytest.mark.parametrize("kind", KINDS)


# Distributions


@each_kind
def test_probabilities_sum_to_one(kind):
    p = distribution(kind)
    z, _ = every_vector(p.codebook)
    assert len(z) == K**M
    assert p.log_prob(z.double()).exp().sum().item() == pytest.approx(1, abs=1e-6)


@each_kind
def test_samples_come_as_often_as_their_probability_says(kind):
    p = distribution(kind)
    z, index = every_vector(p.codebook)
    expected = p.log_prob(z.double()).exp()
    draws = p.sample((20_000,))
    place = (p.one_hot(draws).int().argmax(-1) * torch.tensor([K**2, K, 1])).sum(-1)
    observed = place.bincount(minlength=K**M) / len(draws)
    assert ((observed - expected).abs() < 5 * (expected / len(draws)).sqrt() + 2 / len(draws)).all()


def test_independent_codes_are_torchs_categoricals():
    logits, codebook = torch.randn(6, M, K), torch.randn(K, 2)
    p = Codes(logits, codebook)
    index = torch.randint(K, (4, 6, M))
    expected = torch.distributions.Categorical(logits=logits).log_prob(index).sum(-1)
    assert torch.allclose(p.log_prob(codebook[index].flatten(-2)), expected, atol=1e-5)
    assert torch.allclose(p.expand((4, 6)).log_prob(codebook[index].flatten(-2)), expected, atol=1e-5)
    draws = p.sample((20_000,))
    assert ((draws.mean(0) - p.mean).abs() < 5 * (p.variance / 20_000).sqrt() + 1e-6).all()
    assert (draws.var(0) / p.variance - 1).abs().max() < 0.1


def test_every_point_under_every_distribution():
    codebook = torch.randn(K, 2)
    q = Codes(torch.randn(6, M, K), codebook, validate_args=False)
    z = codebook[torch.randint(K, (4, M))].flatten(-2).double()
    z[0, 0] += 1  # no code
    expected = q.log_prob(z.unsqueeze(1))
    ours = q.pairwise_log_prob(z)
    assert (ours[0] == -math.inf).all() and torch.allclose(ours[1:], expected[1:], atol=1e-12)
    assert torch.allclose(Mixture(q).log_prob(z[1:]), expected[1:].logsumexp(-1) - math.log(6), atol=1e-6)


def test_the_divergence_is_the_sum_over_all_vectors():
    codebook = torch.randn(K, 2)
    q, p = (Codes(torch.randn(M, K).double(), codebook) for _ in range(2))
    z, _ = every_vector(codebook.double())
    exact = (q.log_prob(z).exp() * (q.log_prob(z) - p.log_prob(z))).sum()
    assert torch.distributions.kl_divergence(q, p).item() == pytest.approx(exact.item(), abs=1e-9)


def test_a_nan_is_drawn_as_some_code_and_said_by_its_density():
    q = Codes(torch.full((6, M, K), math.nan), torch.randn(K, 2), validate_args=False)
    assert q.log_prob(q.sample((2,))).isnan().all()


@each_kind
def test_no_other_vector_has_probability(kind):
    p = distribution(kind)
    z = p.sample((3,))
    assert p.support.check(z).all() and p.support.is_discrete
    z[1, 2] += 1e-3
    assert p.support.check(z).tolist() == [True, False, True]
    with pyro.validation_enabled(True), pytest.raises(ValueError, match="support .*CodeVectors"):
        p.log_prob(z)
    p._validate_args = False
    assert p.log_prob(z).isfinite().tolist() == [True, False, True]


def test_the_logits_of_a_code_see_only_the_codes_before_it():
    prior = as_trained(AutoregressivePrior(lambda: torch.randn(K, 2), M), norm=4.0)
    codes = torch.rand(M * K)
    jacobian = torch.autograd.functional.jacobian(prior.net(None), codes).view(M, K, M, K)
    depends = (jacobian.abs().amax((1, 3)) > 1e-6).tolist()
    assert depends == [[source < target for source in range(M)] for target in range(M)]


def test_a_learned_prior_starts_as_nearly_uniform_and_learns_what_depends_on_what():
    """Of two codes the second is always the first: half of the uniform prior's nats."""
    codebook = torch.randn(K, D)
    prior = AutoregressivePrior(lambda: codebook, 2)
    z = codebook[torch.arange(K).repeat(2, 1).T].flatten(-2)
    assert torch.allclose(prior().log_prob(z), torch.tensor(-2 * math.log(K)), atol=1.0)
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.03)
    for _ in range(200):
        optimizer.zero_grad()
        (-prior().log_prob(z).mean()).backward()
        optimizer.step()
    assert prior().log_prob(z).mean().item() == pytest.approx(-math.log(K), abs=0.05)


# The posterior


def test_the_nearest_codes_to_the_last_bit_and_their_gradient_is_the_encodings():
    codebook, encoded = torch.randn(K, 2), torch.randn(6, M * 2, requires_grad=True)
    q = Quantised(encoded, codebook, validate_args=False)
    z = q.rsample()
    nearest = torch.cdist(encoded.detach().view(-1, 2), codebook).argmin(-1)
    assert torch.equal(z.detach(), codebook[nearest].view(6, -1))
    assert (q.log_prob(z) == 0).all() and (q.log_prob(z + 1e-3) == -math.inf).all()
    w = torch.randn(M * 2)
    copied = z.detach().requires_grad_()
    [expected] = torch.autograd.grad((copied * w).sin().sum(), copied)
    [gradient] = torch.autograd.grad((z * w).sin().sum(), encoded)
    assert torch.equal(gradient, expected)


def by_hand(model, guide, x, weight=1.0):
    """-ELBO + commitment, (7.) of the paper, from the parts."""
    head = guide.head
    encoded = head.linear(guide.body(x))
    index = torch.cdist(encoded.detach().view(-1, D), head.codes).argmin(-1)
    codes = head.codes[index].view(len(x), -1)
    z = encoded + (codes - encoded).detach()
    reconstruction = model.decoder(z).log_prob(x).sum()
    commitment = COMMITMENT * (encoded - codes).square().sum()
    return commitment - reconstruction - weight * model.prior().log_prob(codes).sum()


@pytest.mark.parametrize("objective", [Trace_ELBO(), TraceMeanField_ELBO(), IWAE(3), Stock(), StockMeanField()])
@pytest.mark.parametrize("prior", ["standard", "autoregressive"])
def test_loss_and_gradients_are_the_papers(prior, objective):
    model, guide, both = programs(prior)
    both.double()
    x, weight = images().double(), torch.tensor(0.3, dtype=torch.float64)
    weighted = ScaleLatents(weight)
    loss = objective.differentiable_loss(weighted(model), weighted(guide), x)
    expected = by_hand(model, guide, x, weight)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    ours, theirs = (torch.autograd.grad(value, list(both.parameters())) for value in (loss, expected))
    for (name, _), a, b in zip(both.named_parameters(), ours, theirs):
        assert torch.allclose(a, b, rtol=1e-7, atol=1e-9), name


def test_the_prior_does_not_bend_the_encoder():
    model, guide, both = programs()
    z = guide.q(images()).rsample()
    assert z.requires_grad
    gradients = torch.autograd.grad(
        model.prior().log_prob(z).sum(), list(guide.parameters()), allow_unused=True, materialize_grads=True
    )
    assert all(not g.any() for g in gradients)


def test_in_evaluation_q_is_a_proper_distribution_about_the_same_codes():
    _, guide, _ = programs()
    x = images()
    nearest = guide.q(x).sample()
    with evaluation_mode(guide):
        q = guide.q(x)
        z, _ = every_vector(guide.head.codes)
        log_prob = q.log_prob(z.unsqueeze(1).double())  # (K^M, N)
        trace = pyro.poutine.trace(guide).get_trace(x)
    assert torch.allclose(log_prob.exp().sum(0), torch.ones(len(x)).double(), atol=1e-6)
    assert torch.equal(z[log_prob.argmax(0)], nearest)  # the likeliest vector of all
    assert "commitment" not in trace.nodes
    assert "commitment" in pyro.poutine.trace(guide).get_trace(x).nodes


# The codebook


def kmeans(codes, counts, variance, v):
    """A step of online k-means with numpy, dead codes left out."""
    distances = ((v[:, None] - codes) ** 2).sum(-1)
    nearest = distances.argmin(1)
    sums, old = codes * counts[:, None], codes.copy()
    for k in range(len(codes)):
        mine = v[nearest == k]
        counts[k] = DECAY * counts[k] + (1 - DECAY) * len(mine)
        sums[k] = DECAY * sums[k] + (1 - DECAY) * mine.sum(0)
        old[k] = sums[k] / counts[k]
    spread = distances.min(1).mean() / codes.shape[1]
    return old, counts, spread if variance is None else DECAY * variance + (1 - DECAY) * spread


def test_the_codebook_is_online_k_means():
    head = VectorQuantiser(6, M * D, codes=K).double()
    head.counts += 50 * M / K
    codes, counts, variance = head.codes.numpy().copy(), head.counts.numpy().copy(), None
    for _ in range(20):
        h = torch.randn(50, 6).double()
        codes, counts, variance = kmeans(codes, counts, variance, head.linear(h).detach().view(-1, D).numpy())
        head.learn(h)
        assert (counts > DEAD * 50 * M / K).all()  # none dies
    assert np.allclose(head.codes, codes, atol=1e-12) and np.allclose(head.counts, counts, atol=1e-12)
    assert head.variance.item() == pytest.approx(variance, abs=1e-12)


def test_it_starts_on_vectors_of_the_first_batch_each_on_another():
    head, h = VectorQuantiser(6, M * D, codes=20), torch.randn(50, 6)
    head.learn(h)
    encoded = head.linear(h).view(-1, D)
    same = (head.codes[:, None] - encoded).norm(dim=-1) < 0.01
    assert (same.sum(-1) == 1).all() and same.any(0).sum() == 20
    assert (head.counts == 50 * M / 20).all()


def test_codes_that_start_on_equal_vectors_differ_and_as_the_seed_says():
    h, books = torch.randn(1, 6).expand(50, 6), []
    for _ in range(2):
        torch.manual_seed(3)
        head = VectorQuantiser(6, M * D, codes=30)
        head.learn(h)
        books.append(head.codes)
    assert len(books[0].unique(dim=0)) == 30 and torch.equal(*books)


def test_sigma_is_that_of_the_second_batch_and_then_an_average():
    head = VectorQuantiser(6, M * D, codes=K)
    head.learn(torch.randn(50, 6))
    assert head.variance == 1
    spreads = []
    for _ in range(2):
        h = torch.randn(50, 6)
        spreads.append((head.linear(h) - Quantised(head.linear(h), head.codes).codes).square().mean().item())
        head.learn(h)
    assert head.variance.item() == pytest.approx(DECAY * spreads[0] + (1 - DECAY) * spreads[1], rel=1e-5)


def test_fewer_vectors_than_dead_codes_are_given_once_each():
    head, h = VectorQuantiser(6, M * D, codes=20), torch.randn(4, 6)
    head.learn(h)
    share = torch.tensor(4 * M / 20)
    assert (head.counts == share).sum() == 4 * M and len(head.codes.unique(dim=0)) == 20 and head.codes.isfinite().all()
    head.learn(h)
    assert (head.counts >= DEAD * share).all()


def test_a_dead_code_comes_back_and_the_others_stay():
    torch.manual_seed(0)
    head = VectorQuantiser(2, 4, codes=3)
    nn.init.eye_(head.linear.weight), nn.init.zeros_(head.linear.bias)
    h = torch.randn(200, 2)
    head.learn(h)
    head.codes[1] = 1e6
    for step in range(1000):
        before = head.codes.clone()
        head.learn(h)
        if head.codes[1, 0] < 1e3:
            break
    assert step == math.ceil(math.log(DEAD) / math.log(DECAY)) - 1  # as N_k falls by γ a step to a tenth
    assert (head.codes[[0, 2]] - before[[0, 2]]).abs().max() < 0.1 and head.counts[1] == pytest.approx(200 / 3)
    [share] = {tuple(row) for row in [head.codes[1].tolist()]}
    assert torch.tensor(share).sub(head.linear(h)).abs().sum(-1).min() < 0.02


@pytest.mark.parametrize("engine", ["svi", "eager"])
def test_every_engine_lets_it_learn(engine):
    model, guide, _ = programs()
    before = guide.head.codes.clone()
    make_update(model, guide, engine=engine)(images())
    assert not torch.equal(guide.head.codes, before)


def test_what_is_staged_is_eager(monkeypatch):
    """The graph as traced, run by torch's interpreter; while codes move under it."""
    monkeypatch.setattr(staged, "compile_graph", lambda graph, inputs: graph)
    results = []
    for engine in ("eager", "compiled"):
        torch.manual_seed(0)
        model, guide, both = programs()
        torch.manual_seed(1)
        update = make_update(model, guide, engine=engine, lr=1e-3)
        losses = [update(images())["loss"].item() for _ in range(4)]
        assert engine == "eager" or update.staged is not None, "it was not staged"
        results.append((losses, both.state_dict()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    for name, tensor in results[0][1].items():  # codes too
        assert torch.allclose(tensor, results[1][1][name], atol=1e-3), name


def test_learning_waits_for_no_device_and_allocates_no_buffer_anew():
    _, guide, both = programs()
    before = {name: buffer.data_ptr() for name, buffer in both.named_buffers()}
    with Waits() as waits:
        UpdateLearners(guide)(images())
    assert waits.count == 0
    assert {name: buffer.data_ptr() for name, buffer in both.named_buffers()} == before
    assert UpdateLearners(guide.to("meta"))(images().to("meta")) is None  # which knows no other device


def test_a_recording_takes_the_codebook_for_what_a_step_changes(no_streams):
    model, guide, _ = programs()
    step = GraphStep(model, guide, torch.tensor(1.0), "adam", 1e-3, Trace_ELBO())
    for group in step.optimizer.param_groups:
        group["capturable"] = False
    step(images())
    data = type("Data", (), {"device": torch.device("cpu")})
    state = _Recording(step, data, 4, torch.arange(8)).state()
    assert any(tensor is guide.head.codes for tensor in state)


def test_several_processes_are_refused():
    model, guide, _ = programs()
    with pytest.raises(ProcessError, match="VectorQuantiser does not learn by gradients"):
        make_update(model, guide, reduce=Processes(0, 2).reduce)


def test_a_part_of_ones_own_may_learn():
    class Counting(nn.Linear, Learner):
        seen = 0

        def learn(self, h):
            assert not torch.is_grad_enabled()
            Counting.seen += len(h)

    model, guide = assemble(hidden=(8,), latent=3, shape=SHAPE)
    guide.body = nn.Sequential(guide.body, Counting(8, 8))
    for number, engine in enumerate(("svi", "eager"), start=1):
        update = make_update(model, guide, engine=engine)
        update(images()), update(images(3))
        assert Counting.seen == 10 * number


# Scoring


@pytest.mark.parametrize("prior", ["standard", "autoregressive"])
def test_the_likelihood_is_the_sum_over_all_vectors(prior):
    model, guide, _ = programs(prior)
    for _ in range(5):
        make_update(model, guide)(images())
    guide.head.variance.fill_(1.0)  # wide: of seven images it is next to none, and importance sampling rare luck
    z, _ = every_vector(guide.head.codes)
    x = images()
    with torch.no_grad(), evaluation_mode(model, guide):
        log_joint = torch.stack([model.decoder(z).log_prob(image) for image in x], -1).double()
        log_joint = log_joint + model.prior().log_prob(z.double()).unsqueeze(-1)
        exact = log_joint.logsumexp(0)
        q = guide.q(x).log_prob(z.unsqueeze(1).double())
        elbo = (q.exp() * (log_joint - q)).sum(0)
    result = score(model, guide, x, samples=20_000, exact=False)
    error = relative_error(result.ess, 20_000)  # this guide reaches every code
    assert ((result.log_likelihood - exact).abs() < 5 * error + 1e-4).all()
    assert (result.log_likelihood - exact).abs().max() < 0.1
    parts = decompose(model, guide, x, samples=2000)
    assert parts.elbo.mean.item() == pytest.approx(elbo.mean().item(), abs=5 * parts.elbo.error.item() + 1e-4)
    assert (elbo <= exact + 1e-9).all()
    pyro.set_rng_seed(3)
    many = [elbo_parts(model, guide, x)["elbo"] for _ in range(300)]
    assert np.mean(many) == pytest.approx(elbo.mean().item(), abs=5 * np.std(many) / 300**0.5)


def test_surgery_and_the_aggregated_posterior_hold_over_codes():
    model, guide, _ = programs()
    x = images(20)
    cut = surgery(model, guide, x, samples=50)
    assert 0 < cut.mutual_information.mean <= math.log(20) + 1e-9
    model.prior = ex_post("aggregate", model, guide, x)
    z, _ = every_vector(guide.head.codes)
    with evaluation_mode(model, guide):
        p = model.prior()
        assert p.log_prob(z.double()).exp().sum().item() == pytest.approx(1, abs=1e-6)
    again = surgery(model, guide, x, samples=50)
    assert again.marginal_kl.mean.item() == pytest.approx(0, abs=1e-5)  # the prior is q(z) itself


def test_what_needs_gradients_by_z_says_that_codes_have_none():
    model, guide, _ = programs()
    with pytest.raises(ValueError, match="reparameterised"):
        gaps(model, guide, images(), steps=2)


def test_the_perplexity_of_a_codebook():
    model, guide, _ = programs("standard", codes=4, positions=2)
    guide.head.variance.fill_(1e-6)  # only the nearest
    x = images(40)
    with evaluation_mode(guide):
        nearest = guide.q(x).one_hot(guide.q(x).sample()).double().mean((0, 1))
        use = code_use(model, guide, x)
    assert torch.allclose(use.use, nearest) and use.use.sum().item() == pytest.approx(1)
    assert use.effective == pytest.approx(math.exp(torch.special.entr(nearest).sum()))
    plain = assemble(hidden=(8,), latent=3, shape=SHAPE)
    with pytest.raises(ValueError, match="expects a prior over codes"):
        code_use(*plain, x)


def test_under_pyros_own_trainer():
    model, guide, _ = programs()
    svi = SVI(register(model), register(guide), pyro.optim.Adam({"lr": 1e-3}), Stock())
    assert math.isfinite(svi.step(images()))


def test_the_checkpoint_holds_the_codebook():
    model, guide, both = programs()
    make_update(model, guide)(images())
    again_model, again_guide, again = programs()
    again.load_state_dict(both.state_dict())
    x = images()
    for program, other in ((guide, again_guide),):
        assert torch.equal(program.q(x).sample(), other.q(x).sample())
    expected = score(model, guide, x, samples=20).log_likelihood
    assert torch.equal(score(again_model, again_guide, x, samples=20).log_likelihood, expected)


def test_the_prior_borrows_the_codebook():
    model, guide, both = programs()
    assert torch.equal(model.prior().codebook, guide.head.codes)
    guide.head.codes.add_(1)
    assert torch.equal(model.prior().codebook, guide.head.codes)
    names = [name for name in both.state_dict() if "codes" in name]
    assert names == ["1.head.codes"]  # once


def test_autoregressive_codes_in_a_plate():
    p = distribution("autoregressive")
    wide = p.expand((4, 6))
    assert isinstance(wide, AutoregressiveCodes) and wide.sample((2,)).shape == (2, 4, 6, 2 * M)
    assert wide.log_prob(wide.sample()).shape == wide.log_prob(p.sample()).shape == (4, 6)


# From the command line


def test_a_run_stops_goes_on_to_the_same_bits_and_is_measured(dataset, tmp_path, capsys):
    flags = ["--posterior", "vq:6", "--prior", "autoregressive", "--latent", 8, "--flow", "none"]
    assert train(dataset, tmp_path / "whole", *flags, "--epochs", 2, "--cooldown", 0) in (None, 0)
    assert train(dataset, tmp_path / "half", *flags, "--epochs", 1, "--cooldown", 0) in (None, 0)
    assert call("--resume", tmp_path / "half", "--epochs", 2, "--device", "cpu") in (None, 0)
    whole, half = (load(tmp_path / name) for name in ("whole", "half"))
    for (name, a), b in zip(whole[1].state_dict().items(), half[1].state_dict().values()):
        assert torch.equal(a, b), name
    measures = ["--measures", "elbo,prior,samples,ais,gaps", "--temperatures", 5]
    assert call("score", tmp_path / "whole", *measures) == "error: not measured: gaps"
    said = capsys.readouterr().out
    assert "perplexity of the codebook" in said and "the sum is exact" in said and "reparameterised" in said
    figures = json.loads((tmp_path / "whole" / "results.json").read_text())["measures"]["own"]["prior"]
    assert 1 <= figures["perplexity"] <= figures["codes"] == 6
    assert all(not part.training for program in whole for part in program.modules())  # a guide that a prior borrows too
    assert call("score", tmp_path / "whole", "--prior", "aggregate", "--measures", "likelihood,prior") in (None, 0)
