"""Every prior integrates to one and samples what it scores; a VampPrior is its guide's mixture and nothing else."""

import copy

import pytest
import torch
from torch import nn
from vampyro.guides import Guide
from vampyro.priors import FlowPrior, VampPrior

from tests.helpers import distinct_pairs, every, gap, grid_error
from vampyro.catalogue import specs
from vampyro.catalogue.assemble import assemble
from vampyro.flows import CouplingFlow

SHAPE, LATENT, COUNT = (1, 4, 4), 2, 4
FLOWS = every("flow", 3)
every_prior = pytest.mark.parametrize("prior", every("prior", COUNT))
every_flow = pytest.mark.parametrize("flow", FLOWS)


@pytest.fixture
def build(trained):
    """build(prior, flow, norm): model and guide of trained size in float64, and ten images."""

    def programs(prior, flow="none", norm=2.0):
        images = torch.rand(10, *SHAPE).round()
        model, guide = assemble(prior=prior, flow=flow, hidden=(16,), latent=LATENT, shape=SHAPE, images=images)
        trained(nn.ModuleList([model, guide]), norm).double()
        return model, guide, images.double()

    return programs


def points(*shape):
    return 2 * torch.randn(*shape, LATENT, dtype=torch.float64)


# Every prior


@pytest.mark.parametrize(("prior", "flow"), distinct_pairs(COUNT))
def test_log_prob_integrates_to_one_and_samples_follow_it(prior, flow, build, plane):
    """Mean and second moments of 10,000 samples, within 5 standard errors of the grid's."""
    p = build(prior, flow, norm=0.7)[0].prior()
    assert p.batch_shape == () and p.event_shape == (LATENT,)
    with torch.no_grad():
        sample = p.sample((10_000,))
        low, high = sample.min(0).values, sample.max(0).values
        z, area = plane(low - 0.5 * (high - low), high + 0.5 * (high - low), 400)
        mass = p.log_prob(z).exp() * area
    assert abs(mass.sum().item() - 1) < grid_error(prior, flow)

    def powers(z):
        return torch.stack([z[:, 0], z[:, 1], z[:, 0] ** 2, z[:, 1] ** 2, z[:, 0] * z[:, 1]], -1)

    exact = mass @ powers(z)
    error = (mass @ powers(z) ** 2 - exact**2).sqrt() / len(sample) ** 0.5
    assert ((powers(sample).mean(0) - exact).abs() < 5 * error).all()


@every_prior
def test_float32_prior_scores_in_float64_when_asked(prior, build):
    model, guide, _ = build(prior)
    nn.ModuleList([model, guide]).float()
    assert model.prior().log_prob(points(5).float()).dtype == torch.float32
    assert model.prior().log_prob(points(5)).dtype == torch.float64


def test_standard_is_the_standard_normal(build):
    z = points(20)
    truth = torch.distributions.Normal(torch.zeros_like(z), 1.0).log_prob(z).sum(-1)
    assert gap(build("standard")[0].prior().log_prob(z), truth) < 1e-12


@pytest.mark.parametrize("weighted", ["", ":weighted"])
def test_mog_is_torchs_mixture_of_its_parameters(weighted, build):
    prior, z = build(f"mog:7{weighted}")[0].prior, points(20)
    assert {name for name, _ in prior.named_parameters()} == {"loc", "log_scale"} | ({"logits"} if weighted else set())
    logits = prior.logits if weighted else torch.zeros(7, dtype=torch.float64)
    normals = torch.distributions.Independent(torch.distributions.Normal(prior.loc, prior.log_scale.exp()), 1)
    truth = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=logits), normals)
    assert gap(prior().log_prob(z), truth.log_prob(z)) < 1e-10


def test_mog_begins_where_the_standard_normal_does():
    prior = assemble(prior="mog:4000", hidden=(16,), latent=LATENT, shape=SHAPE)[0].prior
    centre, variance = prior.loc.mean(0), (prior.log_scale.exp().square() + prior.loc.square()).mean(0)
    assert centre.abs().max() < 0.05 and (variance - 1).abs().max() < 0.05  # 4.5 standard errors


# The VampPrior


@every_flow
def test_vamp_of_one_pseudo_input_is_its_posterior(flow, build):
    model, guide, _ = build("vamp:1", flow)
    z = points(50)
    q = guide.q(model.prior.pseudo_inputs()[0])
    assert q.batch_shape == ()
    assert gap(model.prior().log_prob(z), q.log_prob(z)) < 1e-9


@pytest.mark.parametrize("weighted", ["", ":weighted"])
@every_flow
def test_vamp_is_the_mixture_of_posteriors_one_at_a_time(flow, weighted, build):
    model, guide, _ = build(f"vamp:7{weighted}", flow)
    z = points(5, 6)
    u = model.prior.pseudo_inputs()
    weights = model.prior.logits.softmax(0) if weighted else torch.full((7,), 1 / 7, dtype=torch.float64)
    density = sum(weights[k] * guide.q(u[k]).log_prob(z).exp() for k in range(7))
    assert gap(model.prior().log_prob(z), density.log()) < 1e-9


@every_flow
def test_vamp_learns_through_pseudo_inputs_and_guide_alike(flow, build):
    """The gradient of log p(z), by autograd through the brute-force mixture."""
    model, guide, _ = build("vamp:7", flow)
    z, leaves = points(20), [model.prior.pseudo_logits, *guide.parameters()]
    u = model.prior.pseudo_inputs()
    brute = torch.stack([guide.q(u[k]).log_prob(z) for k in range(7)]).logsumexp(0)
    exact = torch.autograd.grad(brute.sum(), leaves)
    for a, b in zip(torch.autograd.grad(model.prior().log_prob(z).sum(), leaves), exact):
        assert b.abs().max() > 0
        assert gap(a, b) < 1e-8 * max(1, b.abs().max().item())


@pytest.mark.parametrize("flow", [f for f in FLOWS if "shared" in specs.parse("flow", f).options])
def test_a_shared_flow_may_as_well_be_in_the_decoder(flow, build):
    """log p(z) - log q(z | x) with the flow is log p(z₀) - log q(z₀ | x) without it, z = T(z₀)."""
    model, guide, images = build("vamp:7", flow)
    plain = Guide(guide.body, guide.head)
    prior = VampPrior(plain.q, SHAPE, components=7)
    prior.pseudo_logits = model.prior.pseudo_logits
    start = plain.q(images).rsample((5,))
    transform = guide.flow(guide.body(images))
    z = transform(start)
    with_flow = model.prior().log_prob(z.clone()) - guide.q(images).log_prob(z.clone())
    without = prior().log_prob(start) - plain.q(images).log_prob(start)
    assert gap(with_flow, without) < 1e-9
    assert transform.log_abs_det_jacobian(start, z).abs().max() > 1e-3, "this flow changes no volume: nothing shown"


def test_pseudo_inputs_stay_images_and_go_on_learning(build):
    """However hard 50 steps push outwards."""
    model, guide, _ = build("vamp:7")
    nn.ModuleList([model, guide]).float()
    prior = model.prior
    inside = [prior.pseudo_inputs().detach()]
    outwards = torch.where(torch.arange(16) % 2 == 0, 1.0, -1.0).view(SHAPE)
    optimizer = torch.optim.Adam([prior.pseudo_logits], lr=1.0)
    for _ in range(50):
        optimizer.zero_grad()
        (-outwards * prior.pseudo_inputs()).sum().backward()
        optimizer.step()
        inside.append(prior.pseudo_inputs().detach())
    assert all(0 <= u.min() and u.max() <= 1 for u in inside)
    u = prior.pseudo_inputs()
    assert ((u - 0.5).sign() == outwards).all() and (u - 0.5).abs().min() > 0.49
    optimizer.zero_grad()
    prior().log_prob(points(200).float()).sum().backward()
    assert prior.pseudo_logits.grad.ne(0).all()


def test_pseudo_inputs_start_dark_and_different_or_from_the_images():
    images = torch.rand(10, *SHAPE)
    images[:5] = images[:5].round()
    options = dict(hidden=(16,), latent=LATENT, shape=SHAPE, images=images)
    u = assemble(prior="vamp:50", **options)[0].prior.pseudo_inputs()
    assert 0 < u.min() and u.max() < 1 and u.mean() < 0.3
    assert (u.unsqueeze(1) - u).abs().flatten(2).amax(-1).fill_diagonal_(1).min() > 0.1  # no two alike
    for option, bound in (("from-data", 0.011), ("fixed", 0.0)):
        u = assemble(prior=f"vamp:6:{option}", **options)[0].prior.pseudo_inputs()
        distance = (u.unsqueeze(1) - images).abs().flatten(2).amax(-1)
        assert distance.min(1).values.max() <= bound
        assert len(distance.argmin(1).unique()) == 6  # six different ones


def test_fixed_pseudo_inputs_do_not_learn(build):
    prior = build("vamp:4:fixed:weighted")[0].prior
    assert [name for name, _ in prior.named_parameters()] == ["logits"]
    assert not prior.pseudo_inputs().requires_grad
    assert "fixed" in prior.state_dict()  # but they are saved


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(trainable=False), "needs the images"),
        (dict(images=torch.zeros(3, *SHAPE)), r"shape \(4, 1, 4, 4\), got \(3, 1, 4, 4\)"),
        (dict(images=torch.full((4, *SHAPE), 1.5)), r"in \[0, 1\], got \[1.5, 1.5\]"),
        (dict(images=torch.full((4, *SHAPE), torch.nan)), r"in \[0, 1\]"),
    ],
)
def test_vamp_refuses_what_are_no_pseudo_inputs(arguments, message):
    with pytest.raises(ValueError, match=message):
        VampPrior(lambda u: u, SHAPE, components=4, **arguments)


@pytest.mark.parametrize("prior", ["vamp:4:from-data", "vamp:4:fixed"])
def test_images_must_be_there_and_enough(prior):
    with pytest.raises(specs.SpecError, match="got none"):
        assemble(prior=prior, shape=SHAPE)
    with pytest.raises(specs.SpecError, match="needs 4 training images, got 3"):
        assemble(prior=prior, shape=SHAPE, images=torch.zeros(3, *SHAPE))


@every_flow
def test_the_guide_is_borrowed_and_not_owned(flow, build):
    model, guide, _ = build("vamp:4:weighted", flow)
    assert {name for name, _ in model.prior.named_parameters()} == {"pseudo_logits", "logits"}
    assert not {id(p) for p in model.parameters()} & {id(p) for p in guide.parameters()}
    assert not any("prior" in name and "body" in name for name in model.state_dict())


@every_flow
def test_a_copy_of_model_and_guide_borrows_the_copied_guide(flow, build):
    model, guide, _ = build("vamp:4", flow)
    z = points(20)
    before = model.prior().log_prob(z)
    twin, twin_guide = copy.deepcopy(nn.ModuleList([model, guide]))
    assert torch.equal(twin.prior().log_prob(z), before)
    with torch.no_grad():
        twin_guide.head.linear.bias.add_(1.0)
    assert gap(twin.prior().log_prob(z), before) > 0.01
    assert torch.equal(model.prior().log_prob(z), before)


@every_flow
def test_a_loaded_state_gives_the_prior_back(flow, build):
    model, guide, _ = build("vamp:4", flow)
    other, other_guide, _ = build("vamp:4", flow)
    z = points(20)
    assert gap(other.prior().log_prob(z), model.prior().log_prob(z)) > 0.01
    nn.ModuleList([other, other_guide]).load_state_dict(nn.ModuleList([model, guide]).state_dict())
    assert torch.equal(other.prior().log_prob(z), model.prior().log_prob(z))


def test_what_is_borrowed_is_a_function_and_a_flow_as_the_prior_is_shared(build):
    _, guide, _ = build("standard", "none")
    with pytest.raises(TypeError, match="pass guide.q, not a Guide"):
        VampPrior(guide, (1, 2, 2), 3)
    with pytest.raises(ValueError, match="shared=True"):
        FlowPrior(CouplingFlow(8, 2, length=2), 2)
