"""Programs that a user may bring: what serves any of them, and what is refused and why."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from vampyro.guides import Guide
from vampyro.models import VAE
from vampyro.priors import StandardNormal, VampPrior

from vampyro.catalogue.assemble import assemble
from vampyro.distributions import Mixture, gemm
from vampyro.flows import PlanarFlow
from vampyro.likelihood import log_weights, score
from vampyro.nets import MLP, BernoulliHead
from vampyro.programs.randomness import seeded
from vampyro.training import elbo_parts, make_update

SHAPE = (1, 3, 4)


def images(count=5):
    return torch.rand(count, *SHAPE).round()


def pair(**parts):
    return assemble(hidden=(8,), latent=2, shape=SHAPE, **parts)


def test_plain_functions_are_scored_as_the_modules_they_call():
    model, guide = pair(prior="vamp:3")
    x = images()
    plain = score(lambda x: model(x), lambda x: guide(x), x, samples=20)
    assert torch.equal(plain.log_likelihood, score(model, guide, x, samples=20).log_likelihood)


def test_two_plain_functions_are_trained_by_svi_alone():
    model, guide = pair()
    with pytest.raises(TypeError, match="svi"):
        make_update(lambda x: model(x), lambda x: guide(x))


def test_a_model_without_parameters_trains_its_guide():
    class Fixed(nn.Module):
        def forward(self, z):
            return dist.Bernoulli(logits=z.sum(-1)[..., None, None, None].expand(*z.shape[:-1], *SHAPE)).to_event(3)

    _, guide = pair()
    before = [p.clone() for p in guide.parameters()]
    make_update(VAE(StandardNormal(2), Fixed()), guide)(images())
    assert not any(torch.equal(a, b) for a, b in zip(before, guide.parameters()))


def test_param_sites_are_not_left_untrained_in_silence():
    class Shifted(Guide):
        def q(self, x):
            return dist.Normal(super().q(x).loc + pyro.param("shift", torch.zeros(2)), 1.0).to_event(1)

    model, guide = pair()
    with pytest.raises(ValueError, match="'shift'"):
        make_update(model, Shifted(guide.body, guide.head))(images())


class WithAuxiliary(nn.Module):
    def __init__(self, program):
        super().__init__()
        self.program = program

    def forward(self, x=None):
        with pyro.plate("others", len(x)):
            pyro.sample("aux", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
        return self.program(x)


@pytest.mark.parametrize("which", ["model", "guide"])
def test_latents_of_one_program_only_are_named(which):
    model, guide = pair()
    pairs = {"model": (WithAuxiliary(model), guide), "guide": (model, WithAuxiliary(guide))}
    for evaluate in (elbo_parts, lambda *args: score(*args, samples=3)):
        with pytest.raises(ValueError, match=f"only the {which} has 'aux'"):
            evaluate(*pairs[which], images())


def test_a_prior_that_samples_is_no_constant():
    """A hyperprior's site is in every chunk, and the weights are those of one chunk."""

    class Hyper(nn.Module):
        def forward(self):
            scale = pyro.sample("scale", dist.LogNormal(0.0, 0.3))
            return dist.Normal(torch.zeros(2), scale.unsqueeze(-1)).to_event(1)

    class HyperGuide(nn.Module):
        def __init__(self, guide):
            super().__init__()
            self.guide = guide

        def forward(self, x):
            with pyro.plate("others", len(x)):
                pyro.sample("scale", dist.LogNormal(0.0, 0.2))
            return self.guide(x)

    model, guide = pair()
    model, guide, x = VAE(Hyper(), model.decoder), HyperGuide(guide), images(1)
    whole, parts = (score(model, guide, x, samples=40, rows=rows).log_likelihood for rows in (40, 7))
    assert torch.allclose(whole, parts, rtol=1e-6)  # decoded in float32


def test_evaluation_turns_dropout_off_and_on_again():
    model, guide = pair()
    x = images()
    expected = score(model, guide, x, samples=10).log_likelihood
    guide.body = nn.Sequential(guide.body, nn.Dropout(0.9))
    assert torch.equal(score(model, guide, x, samples=10).log_likelihood, expected)
    with seeded(1):
        first = elbo_parts(model, guide, x)["reconstruction"]
    guide.body[1].p = 0.0
    with seeded(1):
        assert elbo_parts(model, guide, x)["reconstruction"] == first
    assert guide.body[1].training


@pytest.mark.parametrize("rows", [7, 4096])
def test_a_chunk_of_weights_that_are_all_zero(rows):
    """p(z) uniform on a square that most samples miss: the estimate is that of all weights at once."""

    class Square(nn.Module):
        def forward(self):
            return dist.Uniform(-0.6 * torch.ones(2), 0.6 * torch.ones(2), validate_args=False).to_event(1)

    model, guide = pair()
    model, x = VAE(Square(), model.decoder), images(7)
    with seeded(0, 0):
        log_w = torch.cat(list(log_weights(model, guide, x, 64)))
    assert (log_w == -math.inf).any() and (log_w > -math.inf).any(0).all()
    result = score(model, guide, x, samples=64, rows=rows).log_likelihood
    assert result.isfinite().all()
    if rows == 4096:
        assert torch.allclose(result, log_w.logsumexp(0) - math.log(64), rtol=1e-12)


@pytest.mark.parametrize("base", [dist.Normal, dist.Laplace])
@pytest.mark.parametrize("shared", [False, True])
def test_a_vamp_prior_takes_any_posterior_through_a_flow(base, shared):
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 2)

        def forward(self, h):
            return base(self.linear(h), 0.7).to_event(1)

    guide = Guide(MLP(SHAPE, (8,)), Head(), PlanarFlow(8, 2, length=2, shared=shared))
    prior = VampPrior(guide.q, SHAPE, components=4)
    model = VAE(prior, nn.Sequential(MLP((2,), (8,)), BernoulliHead(8, SHAPE)))
    assert make_update(model, guide)(images())["loss"].isfinite()
    z = torch.randn(6, 2)
    one_by_one = [guide.q(u[None]).log_prob(z.unsqueeze(1)).squeeze(1) for u in prior.pseudo_inputs()]
    expected = torch.stack(one_by_one, -1).logsumexp(-1) - math.log(4)
    assert torch.allclose(prior().log_prob(z), expected, atol=1e-4)


def test_a_mixture_refuses_fewer_bits(monkeypatch):
    monkeypatch.setattr(gemm, "_error", {"bf16": 1e-3}.get)  # a processor that does round the factors
    mixture = Mixture(pair()[1].q(images()))
    with gemm._mode("bf16"), pytest.raises(RuntimeError, match="highest"):
        mixture.log_prob(torch.zeros(1, 2))
    assert mixture.log_prob(torch.zeros(1, 2)).isfinite()


@pytest.mark.parametrize(
    ("parts", "fragment"),
    [
        ({"hidden": ()}, "widths"),
        ({"hidden": 300}, "300"),
        ({"latent": 0}, "at least 1"),
        ({"flow": None}, "none, planar"),
        ({"net": "cnn"}, "choose from mlp"),
        ({"prior": "vamp:9:from-data", "images": torch.zeros(8, *SHAPE)}, "9"),
        ({"prior": "vamp:9:fixed"}, "images="),
    ],
)
def test_assemble_names_the_bad_argument(parts, fragment):
    with pytest.raises(ValueError, match=fragment):
        assemble(shape=SHAPE, **parts)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_a_step_never_waits_and_scores_agree_with_the_cpu():
    model, guide = pair(prior="vamp:5", flow="planar:2")
    x = images(20)
    expected = score(model, guide, x, samples=2000)
    both, x = nn.ModuleList([model, guide]).cuda(), x.cuda()
    result = score(model, guide, x, samples=2000)
    assert (result.log_likelihood - expected.log_likelihood).abs().max() < 0.5
    update = make_update(model, guide)
    update(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        update(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(p.isfinite().all() for p in both.parameters())
