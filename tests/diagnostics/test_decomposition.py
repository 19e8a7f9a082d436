"""The ELBO's parts, mutual information, active units and mixtures' use, against closed forms, grids and loops."""

import inspect
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from vampyro.guides import Guide
from vampyro.models import VAE

from tests.helpers import as_trained
from tests.likelihood.test_importance import linear_gaussian
from vampyro.catalogue.assemble import assemble
from vampyro.diagnostics import active_units, component_use, decompose, rate_distortion, surgery
from vampyro.diagnostics.surgery import aggregated_log_prob
from vampyro.distributions import DiagonalNormal
from vampyro.likelihood import log_weights
from vampyro.nets import NormalHead
from vampyro.programs.estimate import Estimate
from vampyro.programs.randomness import seeded

SHAPE = (1, 3, 4)


def programs(prior="standard", flow="none", model="vae", latent=3, images=6):
    torch.manual_seed(0)
    x = torch.rand(images, *SHAPE).round()
    model, guide = assemble(model=model, prior=prior, flow=flow, hidden=(20,), latent=latent, shape=SHAPE)
    as_trained(nn.ModuleList([model, guide]), norm=1.0)
    return model, guide, x


def close(a, b, atol):
    torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=atol)


def normal_kl(loc, scale):
    """KL(N(loc, scale²) ‖ N(0, 1)) of each dimension."""
    return 0.5 * (loc**2 + scale**2 - 1) - scale.log()


# -- the parts ---------------------------------------------------------------------------------------------------


def test_a_linear_gaussian_vae_has_its_closed_parts():
    model, guide, x, _, elbo = linear_gaussian(images=7, narrower=0.7, shift=0.6)
    parts = decompose(model, guide, x, samples=2000)
    q, (w, b, s) = guide.q(x), (getattr(model.decoder, name) for name in ("matrix", "bias", "scale"))
    kl = normal_kl(q.loc, q.scale)
    close(parts.kl_per_dimension["z"].values, kl, 1e-12)
    close(parts.kl["z"].values, kl.sum(-1), 1e-12)
    assert parts.kl["z"].errors.max() < 1e-12  # closed, not sampled
    seen = dist.Normal(q.loc @ w.T + b, s).log_prob(x.flatten(1)).sum(-1)
    seen = seen - 0.5 * ((q.scale**2) @ (w**2).sum(0)) / s**2
    for estimate, exact in [(parts.reconstruction, seen), (parts.elbo, elbo)]:
        assert 0 < estimate.errors.min() and estimate.errors.max() < 0.2
        assert ((estimate.values - exact).abs() < 4.5 * estimate.errors).all()


def test_errors_are_those_of_the_draws():
    model, guide, x, *_ = linear_gaussian(images=3, narrower=0.7)
    runs = [decompose(model, guide, x, samples=20, seed=seed).reconstruction for seed in range(150)]
    spread = torch.stack([run.values for run in runs]).std(0)
    claimed = torch.stack([run.errors for run in runs]).square().mean(0).sqrt()
    assert ((spread / claimed - 1).abs() < 0.25).all()
    spread = torch.stack([run.mean for run in runs]).std()
    assert spread == pytest.approx(torch.stack([run.error for run in runs]).mean().item(), rel=0.25)


@pytest.mark.parametrize("model", ["vae", "two-level"])
@pytest.mark.parametrize("flow", ["planar:2", "coupling:2", "iaf:2:shared"])
@pytest.mark.parametrize("prior", ["standard", "mog:3", "vamp:3", "coupling:2"])
def test_parts_add_up_to_the_mean_log_weight_of_scoring(prior, flow, model):
    """Behind a flow nothing is in closed form: then the same seed draws the same z for both."""
    model, guide, x = programs(prior, flow, model)
    parts = decompose(model, guide, x, samples=8, rows=400)
    with seeded(0):
        log_w = torch.cat(list(log_weights(model, guide, x, 8, rows=400)))
    close(parts.elbo.values, log_w.mean(0), 1e-9)
    close(parts.elbo.values, parts.reconstruction.values - sum(kl.values for kl in parts.kl.values()), 1e-9)
    assert set(parts.kl) == ({"z1", "z2"} if hasattr(model, "middle") else {"z"})
    assert set(parts.kl_per_dimension.values()) == {None}


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_blocks_of_images_and_chunks_of_samples_are_all_of_them(rows):
    model, guide, x = programs("mog:3")
    whole, cut = decompose(model, guide, x, samples=100), decompose(model, guide, x, samples=100, rows=rows)
    assert cut.kl["z"].values.shape == (6,)
    for a, b in [(whole.kl["z"], cut.kl["z"]), (whole.reconstruction, cut.reconstruction)]:
        assert ((a.values - b.values).abs() < 4.5 * (a.errors**2 + b.errors**2).sqrt()).all()
    assert whole.kl["z"].error.item() == pytest.approx(cut.kl["z"].error.item(), rel=0.3)


def test_of_two_levels_each_has_its_kl():
    model, guide, x = programs(model="two-level", latent=(3, 2))
    parts = decompose(model, guide, x, samples=400)
    q2 = guide.q(x)
    assert list(parts.kl) == list(parts.kl_per_dimension) == ["z2", "z1"]  # in the guide's order
    close(parts.kl_per_dimension["z2"].values, normal_kl(q2.loc, q2.scale), 1e-6)
    assert parts.kl["z2"].errors.max() < 1e-6 < parts.kl["z1"].errors.min()
    with torch.no_grad(), seeded(5):
        z2 = q2.sample((2000,))
        q1, p1 = guide.lower.q((x, z2)), model.middle(z2)
        kl = (p1.scale / q1.scale).log() + (q1.scale**2 + (q1.loc - p1.loc) ** 2) / (2 * p1.scale**2) - 0.5
    direct, ours = Estimate.of(kl), parts.kl_per_dimension["z1"]
    assert ours.values.shape == (6, 3)
    assert ((direct.values - ours.values).abs() < 4.5 * (direct.errors**2 + ours.errors**2).sqrt()).all()
    close(ours.values.sum(-1), parts.kl["z1"].values, 1e-5)


def heavy_model(x):
    with pyro.plate("images", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1))
        pyro.sample(
            "x", dist.Normal(z.sum(-1)[..., None, None, None].expand(*z.shape[:-1], *SHAPE), 1.0).to_event(3), obs=x
        )


def heavy_guide(x):
    with pyro.plate("images", len(x)):
        loc = torch.stack([x.mean((1, 2, 3)), torch.zeros(len(x))], -1)
        pyro.sample("z", dist.StudentT(torch.tensor(8.0), loc, torch.tensor([0.5, 1.5])).to_event(1))


def test_functions_are_decomposed_and_independent_dimensions_without_a_closed_form_are_sampled():
    x = torch.rand(3, *SHAPE)
    parts = decompose(heavy_model, heavy_guide, x, samples=20_000)
    z = torch.linspace(-150, 150, 600_001).double()
    for d, (loc, scale) in enumerate([(x[1].mean(), 0.5), (0.0, 1.5)]):
        log_q, log_p = dist.StudentT(8.0, loc, scale).log_prob(z), dist.Normal(0.0, 1.0).log_prob(z)
        exact = torch.trapezoid(log_q.exp() * (log_q - log_p), z)
        each = parts.kl_per_dimension["z"]
        assert abs(each.values[1, d] - exact) < 4.5 * each.errors[1, d] < 0.2
    close(parts.kl_per_dimension["z"].values.sum(-1), parts.kl["z"].values, 1e-6)


def test_rate_and_distortion_are_minus_the_elbo():
    model, guide, x = programs("vamp:3", "planar:2", "two-level")
    rate, distortion = rate_distortion(model, guide, x, samples=8)
    parts = decompose(model, guide, x, samples=8)
    assert rate == pytest.approx(sum(kl.mean.item() for kl in parts.kl.values()), abs=1e-12)
    assert -(rate + distortion) == pytest.approx(parts.elbo.mean.item(), abs=1e-9)


def point_guide(x):
    with pyro.plate("images", len(x)):
        pyro.sample("z", dist.Delta(torch.zeros(len(x), 2), event_dim=1))


def test_what_cannot_be_decomposed_is_refused():
    model, guide, x = programs()
    with pytest.raises(ValueError, match="samples is 1, expected at least 2"):
        decompose(model, guide, x, samples=1)
    with pytest.raises(ValueError, match="expected at least one image"):
        decompose(model, guide, x[:0])
    with pytest.raises(ValueError, match="'z' is a Delta"):
        decompose(heavy_model, point_guide, x)


# -- mutual information and the marginal KL ------------------------------------------------------------------------


def test_surgery_is_what_integrals_over_the_plane_say(plane):
    model, guide, x, *_ = linear_gaussian(images=12, narrower=0.8)
    result = surgery(model, guide, x, samples=2000)
    z, cell = plane(-7, 7, 500)
    q = guide.q(x)
    each = dist.Normal(q.loc, q.scale).log_prob(z[:, None]).sum(-1)  # (points, images)
    log_q = each.logsumexp(-1) - math.log(12)
    log_p = dist.Normal(0.0, 1.0).log_prob(z).sum(-1)
    information = (each.exp() * (each - log_q[:, None])).sum(0) * cell
    marginal = (log_q.exp() * (log_q - log_p)).sum() * cell
    assert result.site == "z" and result.log_images == pytest.approx(math.log(12))
    assert 0.3 < information.mean() < math.log(12) and marginal > 0.05
    mi = result.mutual_information
    assert ((mi.values - information).abs() < 4.5 * mi.errors).all() and mi.error < 0.01
    assert abs(result.marginal_kl.mean - marginal) < 4.5 * result.marginal_kl.error < 0.05
    assert abs(result.kl.mean - normal_kl(q.loc, q.scale).sum(-1).mean()) < 4.5 * result.kl.error < 0.1
    close(result.kl.values, mi.values + result.marginal_kl.values, 1e-12)


@pytest.mark.parametrize(
    ("prior", "flow", "model"), [("vamp:3", "planar:2", "two-level"), ("mog:3", "coupling:2", "vae")]
)
def test_the_aggregated_posterior_is_the_mean_of_all_posteriors(prior, flow, model, monkeypatch):
    model, guide, x = programs(prior, flow, model, images=7)
    z = torch.randn(2, 5, 3).double()
    with torch.no_grad():
        direct = torch.stack([guide.q(image).log_prob(z) for image in x]).exp().mean(0).log()
        for size, block in [(7, 2**24), (3, 2**24), (3, 20)]:  # of images, and of points × images × dimensions
            monkeypatch.setitem(aggregated_log_prob.__globals__, "BLOCK", block)
            ours = aggregated_log_prob([guide.q(part) for part in x.split(size)], z)
            close(ours, direct, 1e-5)
    result = surgery(model, guide, x, samples=20, batch_size=3)
    assert result.site == ("z2" if hasattr(model, "middle") else "z")
    assert result.mutual_information.mean <= math.log(7) + 1e-9


def test_the_extremes_of_mutual_information():
    model, guide, x, *_ = linear_gaussian(images=8)
    guide.head.matrix = guide.head.matrix * 0
    same = surgery(model, guide, x)
    close(same.mutual_information.values, torch.zeros(8), 1e-12)
    close(same.marginal_kl.values, same.kl.values, 1e-12)
    model, guide, x, *_ = linear_gaussian(images=8)
    guide.head.matrix = guide.head.matrix * 1000
    apart = surgery(model, guide, x)
    assert (apart.mutual_information.values - math.log(8)).abs().max() < 1e-9


def function_guide(x):
    with pyro.plate("images", len(x)):
        pyro.sample("z", dist.Normal(x.flatten(1)[:, :2], x.flatten(1)[:, 2:4] + 0.1).to_event(1))


def ours_guide(x):
    with pyro.plate("images", len(x)):
        pyro.sample("z", DiagonalNormal(x.flatten(1)[:, :2], x.flatten(1)[:, 2:4] + 0.1))


def test_distributions_without_a_pairwise_form_are_broadcast():
    x = torch.rand(9, *SHAPE)
    plain, fast = surgery(heavy_model, function_guide, x), surgery(heavy_model, ours_guide, x)
    close(plain.mutual_information.values, fast.mutual_information.values, 1e-6)
    assert plain.mutual_information.mean > 0.3


def upwards(x):
    with pyro.plate("images", len(x)):
        z1 = pyro.sample("z1", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
        pyro.sample("z2", dist.Normal(z1, 1.0).to_event(1))


def test_where_no_latent_is_on_top_of_both_programs_surgery_says_so():
    model, _, x = programs(model="two-level", latent=(2, 2))
    with pytest.raises(ValueError, match="begins with the latent 'z1' and the model with 'z2'"):
        surgery(model, upwards, x)
    model, guide, x = programs()
    with pytest.raises(ValueError, match="samples is 1, expected at least 2"):
        surgery(model, guide, x, samples=1)
    with pytest.raises(ValueError, match="at least one image"):
        surgery(model, guide, x[:0])


# -- active units --------------------------------------------------------------------------------------------------


def test_active_units_of_normals_are_exact():
    model, guide, x, *_ = linear_gaussian(images=200)
    guide.head.matrix = guide.head.matrix * torch.tensor([[1.0], [0.01]]).double()
    units = active_units(model, guide, x, samples=2)["z"]
    close(units.variance, guide.q(x).loc.var(0), 1e-12)
    assert units.noise.max() < 1e-20
    assert units.active.tolist() == [True, False] and units.count == 1
    assert active_units(model, guide, x, samples=2, threshold=1e-9)["z"].count == 2


def test_what_sampling_adds_to_the_variance_of_means_is_taken_away():
    """A posterior behind a flow, the same for every image: no unit says anything, though sampled means differ."""
    model, guide, x = programs(flow="planar:2", images=1)
    spread = guide.q(x[0]).sample((100_000,)).var(0)
    units = active_units(model, guide, x.expand(500, *SHAPE), samples=4)["z"]
    close(units.noise / (spread / 4), torch.ones(3), 0.2)
    assert (units.variance.abs() < 0.35 * units.noise).all()
    assert units.noise.min() > 0.01  # each would be active


def test_active_units_behind_a_flow_are_those_of_many_samples():
    model, guide, x = programs(flow="planar:2", images=300)
    few, many = active_units(model, guide, x, samples=10)["z"], active_units(model, guide, x, samples=1000, seed=1)["z"]
    # The error of a sample variance, of Normal means: sqrt(2/N) of it.
    error = (many.variance + few.noise) * math.sqrt(2 / 300)
    assert ((few.variance - many.variance).abs() < 3 * error).all()
    assert many.noise.max() < 0.02 * few.noise.max() and many.variance.max() > 0.01


def test_of_the_lower_level_the_mean_is_over_the_upper():
    model, guide, x = programs(model="two-level", latent=(3, 2), images=100)
    units = active_units(model, guide, x, samples=200)
    close(units["z2"].variance, guide.q(x).loc.var(0), 1e-6)
    with torch.no_grad(), seeded(3):
        means = guide.lower.q((x, guide.q(x).sample((4000,)))).loc.mean(0)
    torch.testing.assert_close(units["z1"].variance, means.var(0).double(), rtol=0.1, atol=1e-3)
    assert units["z1"].noise.min() > 0


def test_active_units_need_images_that_could_differ():
    model, guide, x = programs()
    with pytest.raises(ValueError, match="got 1 and 100"):
        active_units(model, guide, x[:1])
    with pytest.raises(TypeError, match=r"active_units\(model, guide, images\)"):
        inspect.unwrap(active_units)(guide, x, 100)


# -- components ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["mog:4:weighted", "vamp:4"])
def test_use_is_the_mean_responsibility(prior):
    model, guide, x = programs(prior, "planar:2")
    ours = component_use(model, guide, x, samples=300, batch_size=4)
    p = model.prior()
    logits = torch.zeros(4) if p.logits is None else p.logits
    with torch.no_grad(), seeded(9):
        z = guide.q(x).sample((300,))
        joint = logits.softmax(-1) * p.components.log_prob(z.unsqueeze(-2)).exp()
    direct = Estimate.of(joint / joint.sum(-1, keepdim=True))
    assert ours.use.sum().item() == pytest.approx(1)
    assert ((ours.use - direct.mean).abs() < 5 * math.sqrt(2) * direct.error + 1e-6).all()


def test_equal_components_share_and_a_distant_one_is_dead():
    model, guide, x = programs("mog:5")
    with torch.no_grad():
        model.prior.loc.zero_(), model.prior.log_scale.zero_()
    use = component_use(model, guide, x)
    close(use.use, torch.full((5,), 0.2), 1e-6)
    assert use.effective == pytest.approx(5, abs=1e-4) and len(use.dead()) == 0
    with torch.no_grad():
        model.prior.loc[3] = 100.0
    use = component_use(model, guide, x)
    assert use.dead().tolist() == [3] and use.effective == pytest.approx(4, abs=1e-4)
    assert use.dead(share=1.1).tolist() == [3] and use.dead(share=2).tolist() == [0, 1, 2, 3, 4]


def test_of_two_levels_the_prior_of_the_upper_is_looked_at():
    model, guide, x = programs("vamp:4", model="two-level")
    assert component_use(model, guide, x).site == "z2"


def test_a_prior_that_is_no_mixture_has_no_components():
    model, guide, x = programs()
    with pytest.raises(
        ValueError, match="component_use expects a prior that is a Mixture, and the prior of 'z' is a DiagonalNormal"
    ):
        component_use(model, guide, x)


def test_modules_are_evaluated_and_numbers_go_on():
    torch.manual_seed(0)
    guide = Guide(nn.Sequential(nn.Flatten(-3), nn.Linear(12, 8), nn.Dropout(0.5)), NormalHead(8, 3))
    model, _, x = programs("mog:3")
    model = VAE(model.prior, model.decoder)
    before = torch.get_rng_state()
    runs = [
        lambda: decompose(model, guide, x, samples=5).elbo.values,
        lambda: surgery(model, guide, x).kl.values,
        lambda: active_units(model, guide, x)["z"].variance,
        lambda: component_use(model, guide, x).use,
    ]
    for run in runs:
        assert torch.equal(run(), run())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(part.training for part in guide.modules())
