"""The ELBO that trains: against stock Pyro, against its parts by hand, against finite differences."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO as Stock
from torch import nn
from vampyro.guides import Guide
from vampyro.models import VAE
from vampyro.priors import StandardNormal

from tests.helpers import Waits, as_trained, distinct_pairs
from vampyro.catalogue.assemble import assemble
from vampyro.distributions import DiagonalNormal
from vampyro.nets import MLP, BernoulliHead
from vampyro.objectives import KLWeight, ScaleLatents, Trace_ELBO
from vampyro.training import elbo_parts, make_update
from vampyro.training.engines.optimizers import OPTIMIZERS

SHAPE, LATENT = (1, 4, 5), 3

each_pair = pytest.mark.parametrize(("prior", "flow"), distinct_pairs(3))


def programs(prior="standard", flow="none", dtype=torch.float64):
    """(model, guide, both, images), their parameters far from the start."""
    torch.manual_seed(0)
    images = torch.rand(20, *SHAPE).round()
    model, guide = assemble(prior=prior, flow=flow, hidden=(8,), latent=LATENT, shape=SHAPE, images=images)
    both = nn.ModuleList([model, guide]).to(dtype)
    as_trained(both, norm=1.0)
    return model, guide, both, images[:7].to(dtype)


def loss_and_gradients(elbo, model, guide, both, x):
    both.zero_grad()
    torch.manual_seed(1)
    loss = elbo.differentiable_loss(model, guide, x)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in both.named_parameters()}


def same_bits(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@each_pair
@pytest.mark.parametrize(("weight", "dtype"), [(1.0, torch.float64), (0.3, torch.float32)])
def test_lean_elbo_is_stock_elbo_bit_for_bit(prior, flow, weight, dtype):
    model, guide, both, x = programs(prior, flow, dtype)
    weight = torch.tensor(weight)
    model, guide = ScaleLatents(weight)(model), ScaleLatents(weight)(guide)
    loss, gradients = loss_and_gradients(Trace_ELBO(), model, guide, both, x)
    stock_loss, stock_gradients = loss_and_gradients(Stock(), model, guide, both, x)
    assert same_bits(gradients, stock_gradients)
    if dtype == torch.float64:
        assert torch.equal(loss, stock_loss)
    else:  # stock adds the sites' float32 sums as Python's 64-bit floats
        torch.testing.assert_close(loss, stock_loss, rtol=1e-6, atol=0)


def test_lean_elbo_averages_particles_as_stock_does():
    model, guide, both, x = programs("vamp:3", "planar:3")
    loss, gradients = loss_and_gradients(Trace_ELBO(num_particles=3), model, guide, both, x)
    stock_loss, stock_gradients = loss_and_gradients(Stock(num_particles=3), model, guide, both, x)
    torch.testing.assert_close(loss, stock_loss, rtol=1e-14, atol=0)
    assert same_bits(gradients, stock_gradients)


class BinaryPrior(nn.Module):
    def forward(self):
        return dist.Bernoulli(torch.full((LATENT,), 0.5)).to_event(1)


class BinaryHead(nn.Module):
    def forward(self, h):
        return dist.Bernoulli(logits=h).to_event(1)


def test_a_guide_without_reparameterisation_gets_the_stock_estimator():
    torch.manual_seed(0)
    model = VAE(BinaryPrior(), nn.Sequential(MLP((LATENT,), (8,)), BernoulliHead(8, SHAPE)))
    guide = Guide(MLP(SHAPE, (LATENT,)), BinaryHead())
    both, x = nn.ModuleList([model, guide]), torch.rand(7, *SHAPE).round()
    loss, gradients = loss_and_gradients(Trace_ELBO(), model, guide, both, x)
    stock_loss, stock_gradients = loss_and_gradients(Stock(), model, guide, both, x)
    assert gradients["1.body.layers.0.0.weight"].abs().sum() > 0  # the score-function term
    assert torch.equal(loss, stock_loss)
    assert same_bits(gradients, stock_gradients)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 2.0])
def test_scale_latents_weighs_the_kl_term_and_not_x(weight):
    model, guide, both, x = programs("vamp:3", "planar:3")
    scaled = ScaleLatents(torch.tensor(weight, dtype=torch.float64))
    with pyro.validation_enabled(True):
        loss, gradients = loss_and_gradients(Trace_ELBO(), scaled(model), scaled(guide), both, x)

    both.zero_grad()
    torch.manual_seed(1)
    q = guide.q(x)
    z = q.rsample()
    reconstruction = model.decoder(z).log_prob(x).sum()
    kl = q.log_prob(z).sum() - model.prior().log_prob(z).sum()
    (weight * kl - reconstruction).backward()
    torch.testing.assert_close(loss, (weight * kl - reconstruction).detach(), rtol=1e-12, atol=0)
    for name, parameter in both.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-9, atol=1e-12, msg=name)


def test_a_step_follows_the_kl_weight_as_it_is_at_that_moment():
    model, guide, _, x = programs()
    weight = KLWeight(beta=1.0, warmup=10)
    update = make_update(model, guide, weight=weight.value, lr=0.0)
    losses = []
    for epoch in (1, 5, 10):
        weight(epoch)
        torch.manual_seed(1)
        losses.append(update(x)["loss"].item())
    torch.manual_seed(1)
    parts = elbo_parts(model, guide, x)
    expected = [w * parts["kl"] - parts["reconstruction"] for w in (0.1, 0.5, 1.0)]
    assert losses == pytest.approx(expected, rel=1e-7)


def waits_in_a_step(engine, prior, flow, optimizer):
    model, guide, _, x = programs(prior, flow, torch.float32)
    update = make_update(model, guide, engine=engine, optimizer=optimizer)
    update(x)  # the first runs under validation
    with Waits() as waits:
        update(x)
    return waits.count


@each_pair
def test_a_step_never_waits_for_the_device(prior, flow):
    assert [waits_in_a_step("eager", prior, flow, optimizer) for optimizer in OPTIMIZERS] == [0] * len(OPTIMIZERS)


def test_waits_are_counted_where_there_are_some():
    assert waits_in_a_step("svi", "standard", "none", "adam") > 0


def process_state():
    return (
        pyro.infer.util.is_validation_enabled(),
        pyro.poutine.util.is_validation_enabled(),
        dist.is_validation_enabled(),
        torch.distributions.Distribution._validate_args,
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("engine", ["eager", "svi"])
def test_steps_and_evaluation_leave_the_process_as_it_was(validation, engine):
    model, guide, _, x = programs("vamp:3", "planar:3")
    with pyro.validation_enabled(validation):
        before = process_state()
        update = make_update(model, guide, engine=engine)
        for _ in range(2):
            update(x)
            assert process_state() == before
        elbo_parts(model, guide, x)
        assert process_state() == before


def test_the_first_step_names_a_mistake_and_leaves_the_process_as_it_was():
    model, guide, _, x = programs()
    with pyro.validation_enabled(False):
        before = process_state()
        with pytest.raises(ValueError, match="no mass on these images"):
            make_update(model, guide)(x + 0.5)
        assert process_state() == before


@pytest.mark.parametrize("engine", ["eager", "svi"])
def test_a_step_draws_random_numbers_for_the_guide_alone(engine):
    model, guide, _, x = programs("vamp:3", "planar:3")
    update = make_update(model, guide, engine=engine)
    for _ in range(2):
        torch.manual_seed(1)
        update(x)
        after_step = torch.get_rng_state()
        torch.manual_seed(1)
        guide.q(x).rsample()
        assert torch.equal(after_step, torch.get_rng_state())


@each_pair
@pyro.validation_enabled(False)
def test_gradient_of_the_loss_in_the_encoder_agrees_with_finite_differences(prior, flow):
    model, guide, _, x = programs(prior, flow)
    parameters, elbo, h = list(guide.parameters()), Trace_ELBO(), 1e-3

    def loss():
        torch.manual_seed(1)
        return elbo.differentiable_loss(model, guide, x)

    gradients = torch.autograd.grad(loss(), parameters)
    for seed in range(2):
        torch.manual_seed(seed)
        direction = [torch.randn_like(p) for p in parameters]
        length = torch.stack([d.square().sum() for d in direction]).sum().sqrt()
        direction = [d / length for d in direction]
        values = []
        with torch.no_grad():
            for step in (-2 * h, h, 2 * h, -h):  # moved from one to the next, and back
                for p, d in zip(parameters, direction):
                    p.add_(step * d)
                values.append(loss().item())
                for p, d in zip(parameters, direction):
                    p.sub_(step * d)
        numeric = (8 * (values[1] - values[3]) - (values[2] - values[0])) / (12 * h)
        analytic = sum((g * d).sum() for g, d in zip(gradients, direction)).item()
        assert analytic == pytest.approx(numeric, rel=1e-6)


@pytest.mark.parametrize("batch_size", [3, 7, 500])
def test_elbo_parts_weigh_every_image_alike(batch_size):
    model, guide, _, x = programs("mog:3", "planar:3")
    torch.manual_seed(2)
    parts = elbo_parts(model, guide, x, batch_size)
    torch.manual_seed(2)
    reconstruction = kl = 0.0
    with torch.no_grad():
        for batch in x.split(batch_size):  # 3, 3 and 1 images
            q = guide.q(batch)
            z = q.rsample()
            reconstruction += model.decoder(z).log_prob(batch).sum().item() / 7
            kl += (q.log_prob(z) - model.prior().log_prob(z)).sum().item() / 7
    assert parts.keys() == {"elbo", "reconstruction", "kl"}
    assert parts["reconstruction"] == pytest.approx(reconstruction, rel=1e-12)
    assert parts["kl"] == pytest.approx(kl, rel=1e-12)
    assert parts["elbo"] == pytest.approx(reconstruction - kl, rel=1e-12)


class LinearNormal(nn.Module):
    """z → N(x; Wz, s²I)."""

    def __init__(self, matrix, scale):
        super().__init__()
        self.matrix, self.scale = matrix, scale

    def forward(self, z):
        return dist.Normal((z @ self.matrix.T).unflatten(-1, SHAPE), self.scale).to_event(3)


class LinearHead(nn.Module):
    """x → N(z; Mx, diag(scale²))."""

    def __init__(self, matrix, scale):
        super().__init__()
        self.matrix, self.scale = matrix, scale

    def forward(self, h):
        loc = h @ self.matrix.T
        return DiagonalNormal(loc, self.scale.expand_as(loc))


@pytest.mark.parametrize("batch_size", [500, 7001])
def test_elbo_parts_of_a_linear_gaussian_model_are_the_exact_ones(batch_size):
    torch.manual_seed(0)
    w, m = 0.3 * torch.randn(20, 2).double(), 0.1 * torch.randn(2, 20).double()
    s, scale = 0.8, torch.tensor([0.5, 1.2]).double()
    model = VAE(StandardNormal(2).double(), LinearNormal(w, s))
    guide = Guide(nn.Flatten(-3), LinearHead(m, scale))
    x = torch.randn(4, *SHAPE).double()

    loc = x.flatten(1) @ m.T
    kl = 0.5 * (scale**2 + loc**2 - 1 - 2 * scale.log()).sum(-1).mean().item()
    error = (x.flatten(1) - loc @ w.T).square().sum(-1) + (w.square() * scale**2).sum()
    reconstruction = (-error / (2 * s**2)).mean().item() - 10 * torch.tensor(2 * torch.pi * s**2).log().item()

    repetitions = 2500
    parts = elbo_parts(model, guide, x.repeat(repetitions, 1, 1, 1), batch_size)
    single = torch.tensor([list(elbo_parts(model, guide, x).values()) for _ in range(100)]).std(0)
    exact = torch.tensor([reconstruction - kl, reconstruction, kl])
    difference = (torch.tensor(list(parts.values())) - exact).abs()
    assert (difference < 4 * single / repetitions**0.5).all(), (parts, exact)
    assert single.max() / repetitions**0.5 < 0.1
