"""The objectives beside the ELBO, against Pyro's own and against closed forms."""

import math

import pyro
import pytest
import torch
from torch import nn

from tests.helpers import as_trained
from vampyro.catalogue.assemble import assemble
from vampyro.objectives import IWAE, Trace_ELBO, TraceMeanField_ELBO
from vampyro.training import register

SHAPE = (1, 4, 5)


def programs(model="vae", prior="standard", flow="none"):
    torch.manual_seed(0)
    x = torch.rand(7, *SHAPE).round().double()
    model, guide = assemble(model=model, prior=prior, flow=flow, hidden=(8,), latent=3, shape=SHAPE)
    both = as_trained(nn.ModuleList([model, guide]), 1.0).double()
    return model, guide, both, x


def loss_and_gradients(objective, model, guide, both, x, seed=1):
    both.zero_grad()
    torch.manual_seed(seed)
    loss = objective.differentiable_loss(model, guide, x)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in both.named_parameters() if p.grad is not None}


def assert_same(ours, theirs):
    assert ours[0].item() == pytest.approx(theirs[0].item(), rel=1e-12)
    assert ours[1].keys() == theirs[1].keys()
    for name in ours[1]:
        torch.testing.assert_close(ours[1][name], theirs[1][name], rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("model", ["vae", "two-level"])
@pytest.mark.parametrize("prior", ["standard", "vamp:3", "coupling:2"])
@pytest.mark.parametrize("flow", ["none", "planar:2"])
def test_analytic_elbo_is_pyros_mean_field_elbo(model, prior, flow):
    parts = programs(model, prior, flow)
    assert_same(
        loss_and_gradients(TraceMeanField_ELBO(), *parts), loss_and_gradients(pyro.infer.TraceMeanField_ELBO(), *parts)
    )


def test_analytic_kl_is_the_closed_form():
    """-½ Σ (1 + log σ² - μ² - σ²), Kingma & Welling's appendix B."""
    model, guide, both, x = programs()
    torch.manual_seed(1)
    q = guide.q(x)
    log_likelihood = model.decoder(q.rsample()).log_prob(x).sum()
    variance = q.scale.square()
    kl = -0.5 * (1 + variance.log() - q.loc.square() - variance).sum()
    loss, _ = loss_and_gradients(TraceMeanField_ELBO(), model, guide, both, x)
    assert loss.item() == pytest.approx((kl - log_likelihood).item(), rel=1e-12)


@pytest.mark.parametrize("model", ["vae", "two-level"])
def test_analytic_elbo_has_the_same_mean_and_less_noise(model):
    model, guide, both, x = programs(model)
    both.requires_grad_(False)
    copies, x = 20, x.repeat(20, *[1] * (x.ndim - 1))

    def draws(objective):
        return torch.stack([objective.differentiable_loss(model, guide, x) / copies for _ in range(100)])

    torch.manual_seed(0)
    sampled, analytic = draws(Trace_ELBO()), draws(TraceMeanField_ELBO())
    error = ((sampled.var() + analytic.var()) / 100).sqrt()
    assert abs(sampled.mean() - analytic.mean()) < 4 * error
    assert analytic.var() < sampled.var()


@pytest.mark.parametrize("samples", [2, 5])
@pytest.mark.parametrize("model", ["vae", "two-level"])
@pytest.mark.parametrize(("prior", "flow"), [("standard", "none"), ("vamp:3", "planar:2"), ("coupling:2", "iaf:2")])
def test_iwae_is_pyros_renyi_elbo_over_a_whole_plate(model, prior, flow, samples):
    """Which is right as long as nothing is subsampled."""
    parts = programs(model, prior, flow)
    renyi = pyro.infer.RenyiELBO(alpha=0, num_particles=samples, vectorize_particles=True, max_plate_nesting=1)
    ours, gradients = loss_and_gradients(IWAE(samples), *parts)
    model, guide, both, x = parts
    both.zero_grad()
    torch.manual_seed(1)
    theirs = renyi.loss_and_grads(register(model), register(guide), x)
    assert ours.item() == pytest.approx(theirs, rel=1e-9)
    for name, p in both.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("model", ["vae", "two-level"])
def test_iwae_of_one_sample_is_the_elbo(model):
    parts = programs(model, "vamp:3", "planar:2")
    assert_same(loss_and_gradients(IWAE(1), *parts), loss_and_gradients(Trace_ELBO(), *parts))


def test_iwae_averages_weights_image_by_image():
    model, guide, both, x = programs("vae", "vamp:3", "planar:2")
    loss, _ = loss_and_gradients(IWAE(4), model, guide, both, x)
    torch.manual_seed(1)
    q = guide.q(x)
    z = q.rsample((4,))
    log_w = model.prior().log_prob(z) + model.decoder(z).log_prob(x) - q.log_prob(z)
    assert log_w.shape == (4, 7)
    assert loss.item() == pytest.approx(-(log_w.logsumexp(0) - math.log(4)).sum().item(), rel=1e-10)
    summed_first = -(log_w.sum(1).logsumexp(0) - math.log(4)).item()
    assert abs(loss.item() - summed_first) > 0.1, "this test sees nothing"


def test_two_levels_factorise_as_they_say():
    """log p(z2) + log p(z1 | z2) + log p(x | z1, z2) - log q(z2 | x) - log q(z1 | x, z2), by hand."""
    model, guide, both, x = programs("two-level", "vamp:3", "planar:2")
    loss, _ = loss_and_gradients(Trace_ELBO(), model, guide, both, x)
    torch.manual_seed(1)
    q2 = guide.upper.q(x)
    z2 = q2.rsample()
    q1 = guide.lower.q((x, z2))
    z1 = q1.rsample()
    u = model.prior.pseudo_inputs()
    prior = torch.stack([guide.q(u[k]).log_prob(z2) for k in range(3)]).logsumexp(0) - math.log(3)
    elbo = prior + model.middle(z2).log_prob(z1) + model.decoder((z1, z2)).log_prob(x)
    elbo = elbo - q2.log_prob(z2) - q1.log_prob(z1)
    assert loss.item() == pytest.approx(-elbo.sum().item(), rel=1e-10)
