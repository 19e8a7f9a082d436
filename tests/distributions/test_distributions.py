"""Pairwise densities against broadcasting, mixtures against torch's own, samples against exact moments."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.helpers import build_part, every, gap
from vampyro import distributions
from vampyro.catalogue import assemble, specs
from vampyro.distributions import DiagonalNormal, FlowDistribution, LinearBernoulli, Mixture
from vampyro.flows.planar import Planar

FEATURES = 4
every_flow = pytest.mark.parametrize("flow", every("flow", 3))


@pytest.fixture
def posteriors(trained):
    """K posteriors of trained size: (a function that builds them afresh, the tensors they are made of)."""

    def make(flow, count, latent, dtype=torch.float64, log_scale=None, offset=0.0):
        spec = specs.parse("flow", flow)
        module = build_part("flow", spec, FEATURES, latent)
        loc = torch.randn(count, latent) + offset
        log_scale = torch.randn_like(loc).clamp(-3, 1) if log_scale is None else torch.full_like(loc, log_scale)
        loc, scale, h = (t.to(dtype) for t in (loc, log_scale.exp(), torch.randn(count, FEATURES)))
        leaves = [loc.requires_grad_(), scale.requires_grad_()]
        parameters = {} if module is None else dict(trained(module).to(dtype).named_parameters())

        def build(dtype=dtype):
            base = DiagonalNormal(loc.to(dtype), scale.to(dtype))
            if module is None:
                return base
            transform = functional_call(module, {n: p.to(dtype) for n, p in parameters.items()}, (h.to(dtype),))
            return FlowDistribution(base, transform)

        return build, [*leaves, *parameters.values()]

    return make


def direct(q, z):
    return q.log_prob(z.unsqueeze(-2))


# Every point under every component


@pytest.mark.parametrize("shape", [(), (11,), (3, 4)])
@pytest.mark.parametrize("count", [7, 50])
@every_flow
def test_pairwise_is_the_direct_form(flow, count, shape, posteriors):
    build, leaves = posteriors(flow, count, 6)
    z = (2 * torch.randn(*shape, 6, dtype=torch.float64)).requires_grad_()
    weights = torch.randn(*shape, count, dtype=torch.float64)
    values, gradients = [], []
    for log_prob in (build().pairwise_log_prob(z), direct(build(), z)):
        values.append(log_prob)
        gradients.append(torch.autograd.grad((weights * log_prob).sum(), [z, *leaves]))
    size = values[1].abs().max().item()
    assert values[0].shape == (*shape, count)
    assert gap(*values) < 1e-9 * max(1, size / 1000)
    for fast, slow in zip(*gradients):
        assert gap(fast, slow) < 1e-8 * max(1, slow.abs().max().item() / 1000)


@every_flow
def test_pairwise_without_gradient_is_the_same(flow, posteriors):
    """3,000 points under 50 components are more than one block."""
    q = posteriors(flow, 50, 4)[0]()
    z = torch.randn(3, 1000, 4, dtype=torch.float64)
    kept = q.pairwise_log_prob(z)
    with torch.no_grad():
        assert gap(q.pairwise_log_prob(z), kept) < 1e-10


class Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation made."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for t in tree_leaves(result):
            if isinstance(t, torch.Tensor):  # by its storage: an expanded view holds no more than what it views
                self.size = max(self.size, t.untyped_storage().nbytes() // t.element_size())
        return result


def largest(log_prob, leaves):
    with Largest() as mode:
        torch.autograd.grad(log_prob().logsumexp(-1).sum(), leaves)
    return mode.size


@pytest.mark.parametrize("flow", [f for f in every("flow", 3) if f.split(":")[0] in ("none", "planar")])
def test_pairwise_makes_no_tensor_of_points_by_components_by_dimensions(flow, posteriors):
    points, count, latent, length = 64, 50, 40, 3
    build, leaves = posteriors(flow, count, latent)
    z = torch.randn(points, latent, dtype=torch.float64, requires_grad=True)
    q = build()
    assert largest(lambda: q.pairwise_log_prob(z), [z, *leaves]) <= 2 * length * points * count
    q = build()
    assert largest(lambda: direct(q, z), [z, *leaves]) >= points * count * latent, "this test sees nothing"


# Precision


def float32_error(build, offset):
    """Nats between float32 and float64 on the same numbers, at points of the mixture's and far off; K = 500, D = 40."""
    with torch.no_grad():
        q, truth = Mixture(build()), Mixture(build(torch.float64))
        points = q.components.sample()[:20].clone(), torch.randn(20, 40) + offset
        values = [q.log_prob(z) for z in points]
        assert all(value.dtype == torch.float32 for value in values)
        return max(gap(value.double(), truth.log_prob(z.double())) for value, z in zip(values, points))


@pytest.mark.parametrize(
    ("flow", "offset"),
    # Where a flow has a place in space, a centre or a network's range, an offset is another flow.
    [
        (f, o)
        for f in every("flow", 3)
        for o in (0.0, 20.0)
        if "shared" not in f and (not o or f.split(":")[0] in ("none", "planar", "sylvester"))
    ],
)
@pytest.mark.parametrize(("log_scale", "bound"), [(0.0, 2e-4), (-1.0, 6e-4), (-2.0, 4e-3), (-3.0, 4e-2)])
def test_float32_mixture_is_exact_enough(flow, log_scale, bound, offset, posteriors):
    build, _ = posteriors(flow, 500, 40, torch.float32, log_scale, offset)
    assert float32_error(build, offset) < bound


@pytest.mark.parametrize("flow", ["none", "planar:3"])
def test_an_offset_of_all_components_is_centred_away(flow, posteriors):
    """Even of 100, two thousand times the scale."""
    build, _ = posteriors(flow, 500, 40, torch.float32, -3.0, 100.0)
    assert float32_error(build, 100.0) < 2e-2


@every_flow
def test_a_float32_mixture_scores_float64_points_in_float64(flow, posteriors):
    """What remains against float64 throughout is that scale, slope, û and Q were rounded to float32 first."""
    build, _ = posteriors(flow, 50, 8, torch.float32, log_scale=-1.0)
    z = build().sample()[:20].double()
    value, truth = Mixture(build()).log_prob(z), Mixture(build(torch.float64)).log_prob(z)
    assert value.dtype == torch.float64
    assert gap(value, truth) < (1e-11 if flow == "none" else 1e-3)
    coarse = Mixture(build()).log_prob(z.float()).double()
    assert gap(value, truth) < max(gap(coarse, truth), 1e-4)


@every_flow
def test_autocast_changes_nothing(flow, posteriors):
    build, _ = posteriors(flow, 20, 8, torch.float32, log_scale=-2.0)
    q = build()
    z = q.sample()[:10].clone()
    p = Mixture(q, torch.randn(20))
    truth = p.log_prob(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(p.log_prob(z), truth)
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16, "autocast was not on"


# Mixtures


def pair():
    """Components at (5, 5) and (-5, -5)."""
    centres = torch.tensor([[5.0, 5.0], [-5.0, -5.0]], dtype=torch.float64)
    return DiagonalNormal(centres, torch.tensor([[1.0, 0.7], [0.5, 1.2]], dtype=torch.float64))


@pytest.mark.parametrize("weighted", [False, True])
def test_mixture_is_torchs_mixture(weighted):
    loc, log_scale = torch.randn(2, 9, 4, dtype=torch.float64).unbind()
    logits = 2 * torch.randn(9, dtype=torch.float64) if weighted else torch.zeros(9, dtype=torch.float64)
    z = torch.randn(5, 3, 4, dtype=torch.float64)
    leaves = [t.requires_grad_() for t in (loc, log_scale, z, *([logits] if weighted else []))]
    ours = Mixture(DiagonalNormal(loc, log_scale.exp()), logits if weighted else None).log_prob(z)
    normals = torch.distributions.Independent(torch.distributions.Normal(loc, log_scale.exp()), 1)
    truth = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=logits), normals).log_prob(z)
    assert gap(ours, truth) < 1e-12
    for a, b in zip(torch.autograd.grad(ours.sum(), leaves), torch.autograd.grad(truth.sum(), leaves)):
        assert gap(a, b) < 1e-10


def test_mixture_is_of_points_and_not_of_coordinates():
    """A product of 1-D mixtures would put a quarter of the mass at (-5, 5)."""
    p = Mixture(pair())
    off, on = p.log_prob(torch.tensor([[-5.0, 5.0], [5.0, 5.0]], dtype=torch.float64))
    assert off < -30
    assert math.isclose(on, -math.log(2) - math.log(2 * math.pi * 0.7), abs_tol=1e-12)


@pytest.mark.parametrize("logits", [None, [0.0, 1.5]])
def test_mixture_integrates_to_one(logits, plane):
    z, area = plane(-16.0, 16.0, 400)
    p = Mixture(pair(), None if logits is None else torch.tensor(logits, dtype=torch.float64))
    assert abs((p.log_prob(z).exp().sum() * area).item() - 1) < 1e-9


@pytest.mark.parametrize("shape", [(6,), (1, 2, 3)])
def test_components_that_know_no_shortcut_are_scored_too(shape):
    probs = torch.rand(4, *shape, dtype=torch.float64)
    logits = torch.randn(4, dtype=torch.float64)
    x = torch.rand(5, 2, *shape, dtype=torch.float64).round()
    ours = Mixture(dist.Bernoulli(probs).to_event(len(shape)), logits).log_prob(x)
    for n in range(5):
        for m in range(2):
            total = 0.0
            for k in range(4):
                odds = [p if bit else 1 - p for p, bit in zip(probs[k].flatten().tolist(), x[n, m].flatten().tolist())]
                total += logits.softmax(0)[k].item() * math.prod(odds)
            assert math.isclose(ours[n, m].item(), math.log(total), abs_tol=1e-12)


def test_component_log_prob_gives_the_posterior_of_the_component():
    p = Mixture(pair(), torch.tensor([0.0, 2.0], dtype=torch.float64))
    z = 3 * torch.randn(30, 2, dtype=torch.float64)
    joint = torch.stack([p.logits.softmax(0)[k] * direct(p.components, z)[:, k].exp() for k in range(2)], -1)
    assert gap(p.component_log_prob(z).softmax(-1), joint / joint.sum(-1, keepdim=True)) < 1e-12


@pytest.mark.parametrize("shape", [(3,), (5, 3)])
def test_expand_keeps_the_density_and_copies_nothing(shape):
    p = Mixture(pair(), torch.tensor([0.0, 2.0], dtype=torch.float64))
    wide = p.expand(torch.Size(shape))
    assert wide.batch_shape == shape and wide.event_shape == (2,)
    assert wide.components is p.components and wide.logits is p.logits
    z = torch.randn(*shape, 2, dtype=torch.float64)
    assert torch.equal(wide.log_prob(z), p.log_prob(z))
    one = z[..., :1, :]  # for the whole plate
    assert torch.equal(wide.log_prob(one), p.log_prob(one).expand(shape))


def test_a_plate_keeps_the_components_as_they_are():
    p = Mixture(pair())

    def program():
        with pyro.plate("particles", 5, dim=-2), pyro.plate("images", 3):
            return pyro.sample("z", p)

    site = pyro.poutine.trace(program).get_trace().nodes["z"]
    assert site["value"].shape == (5, 3, 2)
    assert site["fn"].components is p.components
    assert torch.equal(site["fn"].log_prob(site["value"]), p.log_prob(site["value"]))


# Samples


@pytest.mark.parametrize("logits", [None, [0.0, 2.0, -1.0]])
def test_samples_have_the_exact_weights_and_moments(logits):
    """Components that do not overlap: each point tells whose it is. All within 4.5 standard errors."""
    count = 20_000
    loc = torch.tensor([[-50.0, 0.0], [0.0, 3.0], [50.0, 1.0]], dtype=torch.float64)
    scale = torch.tensor([[1.0, 2.0], [0.5, 1.0], [3.0, 0.1]], dtype=torch.float64)
    logits = None if logits is None else torch.tensor(logits, dtype=torch.float64)
    weights = torch.full((3,), 1 / 3, dtype=torch.float64) if logits is None else logits.softmax(0)
    z = Mixture(DiagonalNormal(loc, scale), logits).sample((count,))
    assert len(z.unique(dim=0)) == count  # no draw is used twice
    owner = (z[:, 0] / 50).round().long() + 1
    for k in range(3):
        own = z[owner == k]
        assert abs(len(own) / count - weights[k]) < 4.5 * (weights[k] * (1 - weights[k]) / count).sqrt()
        assert ((own.mean(0) - loc[k]).abs() < 4.5 * scale[k] / len(own) ** 0.5).all()
        assert ((own.var(0) - scale[k] ** 2).abs() < 4.5 * scale[k] ** 2 * (2 / len(own)) ** 0.5).all()
    # Neighbours in the sample are independent: as often of one component as chance has it.
    same, chance = (owner[1:] == owner[:-1]).double().mean(), weights.square().sum()
    assert abs(same - chance) < 4.5 * (chance * (1 - chance) / count).sqrt() * 3**0.5


@pytest.mark.parametrize("sample_shape", [(), (4,), (4, 1)])
@pytest.mark.parametrize("batch_shape", [(), (3,), (5, 3)])
def test_sample_shapes(sample_shape, batch_shape):
    z = Mixture(pair()).expand(torch.Size(batch_shape)).sample(sample_shape)
    assert z.shape == (*sample_shape, *batch_shape, 2)
    assert z.dtype == torch.float64 and not z.requires_grad


@every_flow
def test_a_draw_is_of_the_component_that_was_drawn_for_it(flow, posteriors):
    """Components so narrow that each is its centre, flown: by its own flow, as often as its weight says."""
    build, _ = posteriors(flow, 5, 3, log_scale=-25.0)
    with torch.no_grad():
        q, logits = build(), torch.tensor([0.0, 2.0, 1.0, -1.0, 0.5], dtype=torch.float64)
        base = q if flow == "none" else q.base_dist
        centres = base.loc if flow == "none" else q.transform(base.loc)
        z = Mixture(q, logits).sample((40, 50))
    distance, owner = (z.unsqueeze(-2) - centres).norm(dim=-1).min(-1)
    assert distance.max() < 1e-6
    counts, weights = owner.flatten().bincount(minlength=5), logits.softmax(0)
    assert ((counts / 2000 - weights).abs() < 4.5 * (weights * (1 - weights) / 2000).sqrt()).all()


@pytest.mark.parametrize(
    "components",
    [
        DiagonalNormal(torch.randn(50, 8), torch.ones(50, 8)),
        FlowDistribution(
            DiagonalNormal(torch.randn(50, 8), torch.ones(50, 8)),
            Planar(torch.randn(50, 2, 8), torch.randn(50, 2, 8), torch.randn(50, 2)),
        ),
        distributions.BernoulliVector(torch.randn(50, 8)),
        distributions.Codes(torch.randn(50, 2, 4), torch.eye(4)),
    ],
    ids=lambda q: type(q).__name__,
)
def test_a_component_of_nearly_all_the_weight_does_not_make_all_draw_as_often(components):
    logits = torch.zeros(50)
    logits[7] = 12.0
    with Largest() as mode:
        z = Mixture(components, logits).sample((1000,))
    assert z.shape == (1000, 8) and mode.size <= 1000 * 8 * 2  # two layers' parameters for each point


def test_components_that_cannot_be_selected_are_drawn_from_too():
    loc = torch.tensor([[-50.0, 0.0], [0.0, 3.0], [50.0, 1.0]])
    p = Mixture(distributions.FullNormal(loc, scale_tril=torch.eye(2).expand(3, 2, 2)), torch.tensor([0.0, 2.0, -1.0]))
    z = p.sample((5000,))
    owner, weights = (z[:, 0] / 50).round().long() + 1, p.logits.softmax(0)
    counts = owner.bincount(minlength=3)
    assert ((counts / 5000 - weights).abs() < 4.5 * (weights * (1 - weights) / 5000).sqrt()).all()
    assert all(((z[owner == k].mean(0) - loc[k]).abs() < 4.5 / counts[k] ** 0.5).all() for k in range(3))


# What is refused, and torch's registry


def test_mixture_refuses_components_that_are_not_a_list():
    with pytest.raises(ValueError, match=r"batch shape \(K,\), got \(\)"):
        Mixture(DiagonalNormal(torch.zeros(2), torch.ones(2)))
    with pytest.raises(ValueError, match=r"batch shape \(K,\), got \(4, 3\)"):
        Mixture(DiagonalNormal(torch.zeros(4, 3, 2), torch.ones(4, 3, 2)))


@pytest.mark.parametrize("shape", [(3,), (1,), (2, 2), ()])
def test_mixture_refuses_logits_of_another_length(shape):
    with pytest.raises(ValueError, match="expects 2 logits, got shape"):
        Mixture(pair(), torch.zeros(shape))


def test_mixture_refuses_points_of_another_dimension():
    with pytest.raises(ValueError):
        Mixture(pair()).log_prob(torch.zeros(7, 3))


def test_kl_between_diagonal_normals_is_the_closed_form():
    (a, b), (s, r) = torch.randn(2, 5, 3, dtype=torch.float64), torch.rand(2, 5, 3, dtype=torch.float64) + 0.5
    truth = (r.log() - s.log() + (s**2 + (a - b) ** 2) / (2 * r**2) - 0.5).sum(-1)
    assert gap(torch.distributions.kl_divergence(DiagonalNormal(a, s), DiagonalNormal(b, r)), truth) < 1e-12


def test_expanded_diagonal_normal_is_one_still():
    q = DiagonalNormal(torch.randn(3, 2), torch.rand(3, 2) + 0.5)
    wide = q.expand((5, 3))
    assert isinstance(wide, DiagonalNormal) and wide.batch_shape == (5, 3)
    z = torch.randn(5, 3, 2)
    assert torch.equal(wide.log_prob(z), q.log_prob(z))


# Validation. {name: (a distribution of no batch, a value that it has no density for)}

NAN = torch.full((2,), math.nan)
CODEBOOK = torch.eye(3)
INVALID = {
    "AutoregressiveCodes": (lambda: distributions.AutoregressiveCodes(lambda hot: 0 * hot, CODEBOOK, 2), torch.ones(6)),
    "BernoulliVector": (lambda: distributions.BernoulliVector(torch.zeros(2)), torch.full((2,), 0.5)),
    "Codes": (lambda: distributions.Codes(torch.zeros(2, 3), CODEBOOK), torch.ones(6)),
    "ContinuousBernoulli": (lambda: distributions.ContinuousBernoulli(torch.tensor(0.0)), torch.tensor(1.5)),
    "DiagonalNormal": (lambda: DiagonalNormal(torch.zeros(2), torch.ones(2)), NAN),
    "DiscretisedLogistic": (
        lambda: distributions.DiscretisedLogistic(torch.tensor(0.5), torch.tensor(1.0)),
        torch.tensor(0.5),
    ),
    "FlowDistribution": (
        lambda: FlowDistribution(
            DiagonalNormal(torch.zeros(2), torch.ones(2)), Planar(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1))
        ),
        NAN,
    ),
    "FullNormal": (lambda: distributions.FullNormal(torch.zeros(2), scale_tril=torch.eye(2)), NAN),
    "LabelledImages": (
        lambda: distributions.LabelledImages(
            lambda z, y: dist.Bernoulli(z[..., :1, None, None].expand(*y.shape[:-1], 1, 1, 1)).to_event(3),
            torch.ones(2),
            (1, 1, 1),
            classes=2,
        ),
        torch.tensor([0.5, 1.0, 0.0]),
    ),
    "LinearBernoulli": (
        lambda: LinearBernoulli(torch.ones(2), torch.ones(1, 2), torch.ones(1), (1,)),
        torch.ones(1) / 2,
    ),
    "Mixture": (lambda: Mixture(pair()), NAN.double()),
    "Quantised": (lambda: distributions.Quantised(torch.ones(6), CODEBOOK), torch.ones(6)),
    "StraightThroughBernoulli": (
        lambda: distributions.BernoulliVector(torch.zeros(2)).straight_through(),
        torch.full((2,), 0.5),
    ),
}


@pytest.mark.parametrize("plate", [False, True])
@pytest.mark.parametrize("name", INVALID)
def test_what_has_no_density_is_refused_in_a_plate_as_outside(name, plate):
    """A plate expands the priors' distributions: validation must outlive that."""
    build, value = INVALID[name]

    def program():
        if not plate:
            return pyro.sample("z", build(), obs=value)
        with pyro.plate("images", 3):
            return pyro.sample("z", build(), obs=value.expand(3, *value.shape))

    with pyro.validation_enabled(False):
        trace = pyro.poutine.trace(program).get_trace()
        assert trace.nodes["z"]["fn"].batch_shape == ((3,) if plate else ())
        trace.compute_log_prob()
    with pyro.validation_enabled(True), pytest.raises(ValueError):
        pyro.poutine.trace(program).get_trace().compute_log_prob()


def test_every_distribution_is_asked_what_it_refuses():
    contracts = {"Bijection", "CodeDistribution", "Distribution", "pairwise_log_prob"}
    assert set(INVALID) == {*distributions.__all__, "StraightThroughBernoulli"} - contracts


# Bernoulli images whose logits are linear in h


@pytest.mark.parametrize("rows", [(7,), (50, 7), (1, 7)])
@pytest.mark.parametrize("images", [7, 1])
def test_linear_bernoulli_is_a_bernoulli(rows, images):
    h, weight, bias = torch.randn(*rows, 5), torch.randn(12, 5), torch.randn(12)
    x = torch.rand(images, 1, 3, 4).round()
    ours = LinearBernoulli(h, weight, bias, (1, 3, 4))
    logits = (h @ weight.T + bias).unflatten(-1, (1, 3, 4))
    stock = dist.Bernoulli(logits=logits).to_event(3)
    assert (ours.batch_shape, ours.event_shape) == (stock.batch_shape, stock.event_shape)
    torch.testing.assert_close(ours.log_prob(x), stock.log_prob(x), rtol=1e-5, atol=1e-5)
    assert ours.log_prob(x).shape == stock.log_prob(x).shape
    torch.testing.assert_close(ours.mean, logits.sigmoid())
    wide = ours.expand((9, *ours.batch_shape)) if len(rows) == 1 else ours
    torch.testing.assert_close(wide.log_prob(x), stock.log_prob(x).expand(wide.batch_shape), rtol=1e-5, atol=1e-5)
    assert wide.sample((3,)).shape == (3, *wide.batch_shape, 1, 3, 4)
    with pytest.raises(ValueError, match="support"):
        LinearBernoulli(h, weight, bias, (1, 3, 4), validate_args=True).log_prob(x + 0.5)


def test_linear_bernoulli_folds_with_the_same_gradient():
    h, weight, bias = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((50, 7, 5), (12, 5), (12,)))
    x = torch.rand(7, 1, 3, 4).round().double()
    stock = dist.Bernoulli(logits=(h @ weight.T + bias).unflatten(-1, (1, 3, 4))).to_event(3)
    ours = LinearBernoulli(h, weight, bias, (1, 3, 4))
    sample = ours.sample((4000,)).mean(0)
    assert gap(sample, ours.mean.detach()) < 0.06
    weights = torch.randn(50, 7, dtype=torch.float64)
    pairs = [torch.autograd.grad((p.log_prob(x) * weights).sum(), [h, weight, bias]) for p in (ours, stock)]
    for a, b in zip(*pairs):
        assert gap(a, b) < 1e-10


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("flow", ["none", *(spec for spec in every("flow", 3) if spec != "none")])
def test_float64_without_gradient_refines_what_float32_found(flow, weighted, trained, monkeypatch):
    """Against float64 throughout: the components that matter alone are computed twice."""
    spec = specs.parse("flow", flow)
    loc, scale = 1.5 * torch.randn(200, 6), 0.1 + 0.3 * torch.rand(200, 6)
    components = DiagonalNormal(loc.double(), scale.double())
    if flow != "none":
        transform = trained(build_part("flow", spec, 4, 6)).double()(torch.randn(200, 4).double())
        components = FlowDistribution(components, transform)
    logits = torch.randn(200).double() if weighted else None
    mixture = Mixture(components, logits)
    with torch.no_grad():
        z = components.sample()[:3].repeat_interleave(40, 0)
        z = z + 0.02 * torch.randn_like(z)
        seen = []
        logsumexp_by = distributions.mixture._logsumexp_by
        monkeypatch.setattr(
            distributions.mixture, "_logsumexp_by", lambda i, v, n: seen.append(len(v)) or logsumexp_by(i, v, n)
        )
        ours = mixture.log_prob(z)
    truth = mixture.component_log_prob(z).logsumexp(-1)
    assert (len(z) <= seen[0] < len(z) * 200 / 16) if mixture.refines else not seen
    assert mixture.refines == (flow != "none" and "shared" not in flow)
    assert ours.dtype == torch.float64 and gap(ours, truth.detach()) < 2e-7
    with torch.no_grad():
        far = mixture.log_prob(z + 100)  # where float32 says little
    assert gap(far, mixture.component_log_prob(z + 100).logsumexp(-1).detach()) < 1e-3 * far.abs().max()


def test_components_that_cannot_be_told_apart_are_all_scored_in_float64():
    loc = 50 * torch.randn(100, 3, dtype=torch.float64)
    base = dist.Normal(loc, 1.0).to_event(1)
    flow = build_part("flow", "planar:2", 4, 3).double()
    mixture = Mixture(FlowDistribution(base, flow(torch.randn(100, 4).double())))
    z = loc[:5].clone()
    with torch.no_grad():
        assert gap(mixture.log_prob(z), mixture.component_log_prob(z).logsumexp(-1)) < 1e-12


@pytest.mark.parametrize("flow", ["none", "planar:2"])
def test_no_points_have_no_densities(flow):
    model, guide = assemble.assemble(prior="vamp:40", flow=flow, hidden=(8,), latent=3, shape=(1, 4, 5))
    with pyro.validation_enabled(False):  # torch itself fails at empty events, validation and flows alike
        for z in (torch.zeros(0, 3), torch.zeros(0, 3).double()):
            assert model.prior().log_prob(z).shape == (0,)
            with torch.no_grad():
                assert model.prior().log_prob(z).shape == (0,)


@pytest.mark.parametrize("length", [1, 8, 9, 19])
def test_planar_layers_in_groups_and_pairs_are_those_one_by_one(length, trained):
    flow = trained(build_part("flow", f"planar:{length}", FEATURES, 6)).double()
    components = FlowDistribution(
        DiagonalNormal(torch.randn(5, 6).double(), 0.3 + torch.rand(5, 6).double()),
        flow(torch.randn(5, FEATURES).double()),
    )
    z = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    broadcast = components.log_prob(z.unsqueeze(-2))
    everything = components.pairwise_log_prob(z)
    assert gap(everything, broadcast) < 1e-9
    weights = torch.randn(7, 5).double()
    ours, theirs = (
        torch.autograd.grad((t * weights).sum(), [z, flow.conditioner.bias], retain_graph=True)
        for t in (everything, broadcast)
    )
    for a, b in zip(ours, theirs):
        assert gap(a, b) < 1e-7
    point, component = torch.tensor([0, 0, 3, 6, 6]), torch.tensor([4, 1, 1, 0, 4])
    assert gap(components.log_prob_of(z, point, component), broadcast[point, component]) < 1e-9
