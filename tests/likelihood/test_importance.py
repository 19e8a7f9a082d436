"""log p(x) by importance sampling: against models whose log p(x) is known, and against Pyro's own weights."""

import functools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.importance import vectorized_importance_weights
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from vampyro.guides import Guide
from vampyro.models import VAE
from vampyro.priors import StandardNormal

from tests.helpers import as_trained, every, pairs
from vampyro import memory
from vampyro.catalogue.assemble import assemble
from vampyro.data import ImageSet
from vampyro.distributions import DiagonalNormal
from vampyro.likelihood import Score, log_weights, score
from vampyro.likelihood.importance import check_weights
from vampyro.nets import NormalHead
from vampyro.programs.modes import constant_parts
from vampyro.programs.randomness import seeded
from vampyro.training import Cooldown, elbo_parts, fit, make_update

SHAPE, PIXELS = (1, 3, 4), 12

each_prior = pytest.mark.parametrize("prior", every("prior", 3))


class LinearNormal(nn.Module):
    """z → N(x; Wz + b, s²I)."""

    def __init__(self, matrix, bias, scale):
        super().__init__()
        self.matrix, self.bias, self.scale = matrix, bias, scale

    def forward(self, z):
        return dist.Normal((z @ self.matrix.T + self.bias).unflatten(-1, SHAPE), self.scale).to_event(3)


class LinearHead(nn.Module):
    """x → N(z; M(x - b) + shift, diag(scale²))."""

    def __init__(self, matrix, bias, scale, shift=0.0):
        super().__init__()
        self.matrix, self.bias, self.scale, self.shift = matrix, bias, scale, shift

    def forward(self, h):
        loc = (h - self.bias) @ self.matrix.T + self.shift
        return DiagonalNormal(loc, self.scale.expand_as(loc))


def linear_gaussian(images=5, narrower=1.0, shift=0.0):
    """(model, guide, x, exact log p(x), exact ELBO): W has orthogonal columns, so the posterior is diagonal.

    The guide is the posterior with its scale multiplied by `narrower`, its loc moved by `shift` scales.
    """
    torch.manual_seed(0)
    lengths, s = torch.tensor([1.5, 0.6]).double(), 0.7
    w = torch.linalg.qr(torch.randn(PIXELS, 2).double())[0] * lengths
    b = torch.randn(PIXELS).double()
    scale = (1 + (lengths / s) ** 2) ** -0.5
    head = LinearHead((w * (scale / s) ** 2).T, b, narrower * scale, shift * scale)
    model, guide = VAE(StandardNormal(2).double(), LinearNormal(w, b, s)), Guide(nn.Flatten(-3), head)
    x = (torch.randn(images, 2).double() @ w.T + b + s * torch.randn(images, PIXELS).double()).unflatten(-1, SHAPE)
    marginal = torch.distributions.MultivariateNormal(b, w @ w.T + s**2 * torch.eye(PIXELS).double())
    exact = marginal.log_prob(x.flatten(1))
    return model, guide, x, exact, exact - (narrower**2 + shift**2 - 1 - 2 * math.log(narrower))


@pytest.mark.parametrize("samples", [1, 2, 100])
def test_with_the_exact_posterior_every_weight_is_the_likelihood(samples):
    model, guide, x, exact, _ = linear_gaussian()
    for weights in log_weights(model, guide, x, samples, rows=30):
        torch.testing.assert_close(weights, exact.expand_as(weights), rtol=0, atol=1e-9)
    result = score(model, guide, x, samples, rows=30)
    torch.testing.assert_close(result.log_likelihood, exact, rtol=0, atol=1e-9)
    torch.testing.assert_close(result.elbo, exact, rtol=0, atol=1e-9)
    torch.testing.assert_close(result.ess, torch.full((5,), samples).double())


def test_with_a_wrong_guide_the_estimate_rises_from_the_elbo_to_the_likelihood():
    model, guide, x, exact, elbo = linear_gaussian(images=400, narrower=0.7, shift=0.6)
    repetitions = {1: 20, 10: 20, 100: 10, 1000: 4}
    gaps = []
    for samples, count in repetitions.items():
        results = [score(model, guide, x, samples, seed=seed, rows=100_000) for seed in range(count)]
        gaps.append((exact - torch.stack([r.log_likelihood for r in results])).mean().item())
        means = torch.stack([r.elbo for r in results])
        error = (means - elbo).std() / math.sqrt(means.numel())
        assert abs((means - elbo).mean()) < 4 * error  # the ELBO is the same at every S
    assert gaps[0] == pytest.approx((exact - elbo).mean().item(), abs=0.05)
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 8 * gaps[3] > 0
    assert gaps[3] < 0.04


class LearnedNormal(nn.Module):
    """z → N(x; Wz + b, s²I), all learned."""

    def __init__(self):
        super().__init__()
        self.linear, self.log_scale = nn.Linear(2, PIXELS), nn.Parameter(torch.tensor(-1.5))

    def forward(self, z):
        return dist.Normal(self.linear(z).unflatten(-1, SHAPE), self.log_scale.exp()).to_event(3)


class Centred(nn.Module):
    def forward(self, x):
        return 5 * (x.flatten(-3) - 0.5)


def test_a_trained_linear_vae_reaches_the_maximum_likelihood_of_ppca():
    """Its optimum is probabilistic PCA's (Tipping & Bishop 1999): s² the mean of the discarded eigenvalues."""
    torch.manual_seed(0)
    axes = torch.linalg.qr(torch.randn(PIXELS, 2))[0] * torch.tensor([0.25, 0.17])
    x = 0.5 + torch.randn(300, 2) @ axes.T + 0.08 * torch.randn(300, PIXELS)
    x = x.clamp(0, 1).unflatten(-1, SHAPE)
    eigenvalues = torch.linalg.eigvalsh(x.flatten(1).double().T.cov(correction=0))
    discarded, kept = eigenvalues.split([PIXELS - 2, 2])
    maximum = (
        -0.5
        * (PIXELS * math.log(2 * math.pi) + kept.log().sum() + len(discarded) * discarded.mean().log() + PIXELS).item()
    )

    model, guide = VAE(StandardNormal(2), LearnedNormal()), Guide(Centred(), NormalHead(PIXELS, 2))
    update = make_update(model, guide, lr=0.03)
    cooldown = Cooldown(update.set_lr, lr=0.03, epochs=150, fraction=0.7)
    for _ in fit(update, ImageSet("linear", x, x, x), epochs=150, batch_size=50, before_epoch=[cooldown]):
        pass

    w, b, s = (
        t.detach().double()
        for t in (model.decoder.linear.weight, model.decoder.linear.bias, model.decoder.log_scale.exp())
    )
    marginal = torch.distributions.MultivariateNormal(b, w @ w.T + s**2 * torch.eye(PIXELS).double())
    trained = marginal.log_prob(x.flatten(1).double()).mean().item()
    assert maximum - 0.05 < trained <= maximum
    result = score(model, guide, x, samples=200)
    assert result.log_likelihood.mean().item() == pytest.approx(trained, abs=0.01)
    assert result.elbo.mean().item() == pytest.approx(maximum, abs=0.05)
    assert elbo_parts(model, guide, x.repeat(20, 1, 1, 1))["elbo"] == pytest.approx(maximum, abs=0.1)
    assert s.item() == pytest.approx(discarded.mean().sqrt().item(), rel=0.05)


def programs(prior="standard", flow="none", dtype=torch.float32, images=5):
    """(model, guide, images), parameters far from the start."""
    torch.manual_seed(0)
    x = torch.rand(images, *SHAPE).round()
    model, guide = assemble(prior=prior, flow=flow, hidden=(30,), latent=3, shape=SHAPE, images=x)
    both = nn.ModuleList([model, guide]).to(dtype)
    as_trained(both, norm=1.0)
    return model, guide, x.to(dtype)


def weights_of(model, guide, x, samples, **kwargs):
    with seeded(1):
        return torch.cat(list(log_weights(model, guide, x, samples, **kwargs)))


@pytest.mark.parametrize(("prior", "flow"), pairs(3))
def test_weights_summed_over_images_are_pyros(prior, flow):
    model, guide, x = programs(prior, flow)
    ours = weights_of(model, guide, x, 6, rows=10)
    with seeded(1), torch.no_grad():
        pyros, *_ = vectorized_importance_weights(model, guide, x, num_samples=6, max_plate_nesting=1)
    assert ours.shape == (6, 5) and ours.dtype == torch.float64
    assert ours.std(0).min() > 1e-2
    torch.testing.assert_close(ours.sum(-1), pyros.double(), rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 5, 12, 35, 4096])
def test_chunks_of_rows_do_not_change_the_weights(rows):
    model, guide, x = programs("vamp:3", "planar:3", torch.float64)
    with seeded(1):
        chunks = list(log_weights(model, guide, x, 7, rows=rows))
    assert [len(chunk) for chunk in chunks] == [min(max(1, rows // 5), 7 - n) for n in range(0, 7, max(1, rows // 5))]
    torch.testing.assert_close(torch.cat(chunks), weights_of(model, guide, x, 7), rtol=0, atol=1e-10)


@each_prior
@pytest.mark.parametrize("rows", [1, 12, 4096])
def test_each_image_is_encoded_once(prior, rows):
    model, guide, x = programs(prior, "planar:3")
    encoded = []
    guide.body.register_forward_hook(lambda module, inputs, output: encoded.append(inputs[0]))
    weights_of(model, guide, x, 7, rows=rows)
    assert sum(inputs is x for inputs in encoded) == 1


@each_prior
def test_scoring_builds_the_prior_once(prior, monkeypatch):
    model, guide, x = programs(prior, "planar:3")
    calls, encoded = [], []
    original = type(model.prior).forward

    @functools.wraps(original)
    def counted(self):
        calls.append(self)
        return original(self)

    monkeypatch.setattr(type(model.prior), "forward", counted)
    guide.body.register_forward_hook(lambda module, inputs, output: encoded.append(inputs[0]))
    score(model, guide, x, 10, rows=2)  # five blocks of one image, five chunks each
    assert len(calls) == 1
    pseudo = [] if model.prior.pseudo_inputs() is None else [model.prior.pseudo_inputs()]
    assert len(encoded) == 1 + 5 + len(pseudo)  # one to see where the images lie
    assert all(any(torch.equal(u, inputs) for inputs in encoded) for u in [*x.split(1), *pseudo])


@pytest.mark.parametrize(
    ("samples", "rows", "sizes"), [(50, 15, [2, 2, 1]), (50, 4096, [5]), (50, 7, [1] * 5), (5, 2, [3, 2])]
)
def test_score_is_what_the_weights_of_its_blocks_say(samples, rows, sizes):
    model, guide, x = programs("vamp:3", "planar:3")
    blocks = []
    result = score(model, guide, x, samples, seed=9, rows=rows, progress=lambda xs: blocks.extend(map(len, xs)) or xs)
    assert blocks == sizes
    parts = []
    for n, block in enumerate(x.split(sizes[0])):
        with seeded(9, n):
            parts.append(torch.cat(list(log_weights(model, guide, block, samples, rows))))
    w = torch.cat(parts, 1)
    close = functools.partial(torch.testing.assert_close, rtol=0, atol=1e-12)
    close(result.log_likelihood, w.logsumexp(0) - math.log(samples))
    close(result.elbo, w.mean(0))
    close(result.ess, (2 * w.logsumexp(0) - (2 * w).logsumexp(0)).exp())
    assert {tensor.dtype for tensor in result.tensors()} == {torch.float64}


@pytest.mark.parametrize("offset", [0.0, 60.0])
@pytest.mark.parametrize("rows", [2, 200])
def test_score_takes_weights_far_apart_and_far_from_one(offset, rows):
    model, guide, x, *_ = linear_gaussian(images=1, narrower=9.0, shift=100.0)
    x = x + offset
    with seeded(2, 0):
        w = torch.cat(list(log_weights(model, guide, x, 200, rows=rows)))
    assert (w.amax(0) - w[0]).item() > 800
    assert offset == 0 or w.max() < -10_000
    result = score(model, guide, x, 200, seed=2, rows=rows)
    torch.testing.assert_close(result.log_likelihood, w.logsumexp(0) - math.log(200), rtol=1e-13, atol=0)
    torch.testing.assert_close(
        result.ess, (2 * (w - w.max()).logsumexp(0) - (2 * (w - w.max())).logsumexp(0)).exp(), rtol=1e-9, atol=0
    )


def test_summary_and_standard_error():
    values, ess = torch.tensor([-90.0, -80.0, -100.0, -86.0]).double(), torch.tensor([1.0, 2.0, 3.0, 9.0]).double()
    curve = torch.stack([values - n for n in (3, 2, 1, 0)])
    result = Score(values, values - 3, ess, ess / 5, curve, 0 * values, samples=8)
    deviations = [(v + 89) ** 2 for v in (-90, -80, -100, -86)]
    error = math.sqrt(sum(deviations) / 3 / 4)
    assert result.standard_error == pytest.approx(error, rel=1e-12)
    assert result.summary() == {
        "log_likelihood": pytest.approx(-89.0),
        "standard_error": pytest.approx(error),
        "monte_carlo_error": pytest.approx(math.sqrt((8 - 1 + 4 - 1 + 8 / 3 - 1 + 0) / 7) / 4),
        "missing": None,
        "elbo": pytest.approx(-92.0),
        "exact": False,
        "samples": 8,
        "images": 4,
        "distinct_median": None,
        "ess_median": pytest.approx(2.0),
        "pareto_k_median": pytest.approx(0.4),
        "pareto_k_limit": pytest.approx(1 - 1 / math.log10(25)),
        "pareto_k_heavy": 3,
        "convergence": {"1": pytest.approx(-92), "2": pytest.approx(-91), "4": pytest.approx(-90), "8": -89},
    }
    assert "-89.00" in repr(result) and f"{error:.2f}" in repr(result)


class NaNFor(nn.Module):
    """A decoder that returns NaN."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, z):
        p = self.decoder(z).base_dist
        return dist.Normal(
            p.loc + torch.where(z[..., 0] > -99, torch.nan, 0.0)[..., None, None, None], p.scale
        ).to_event(3)


@pytest.mark.parametrize("images", [1, 6])
def test_nan_weights_are_an_error_that_names_the_images(images):
    model, guide, x, *_ = linear_gaussian(images=images)
    assert score(model, guide, x, 50).log_likelihood.isfinite().all()
    with pytest.raises(FloatingPointError, match=f"weights of {images} images .*number 0.* because log p.x, z. is"):
        score(VAE(model.prior, NaNFor(model.decoder)), guide, x, 50)


def test_infinite_weights_are_an_error_and_weights_of_zero_are_not():
    log_w = torch.zeros(4, 3).double()
    log_w[0, 1] = -math.inf
    check_weights(log_w, log_w)
    log_w[2, 2] = math.inf
    with pytest.raises(FloatingPointError, match="weights of 1 images .*number 12., because log q"):
        check_weights(log_w, -log_w, first=10)
    nothing = Score.of(torch.full((50, 2), -math.inf).double())
    assert nothing.heavy == 2 and nothing.ess.tolist() == [0.0, 0.0] and nothing.summary()["ess_median"] == 0.0


def test_the_error_of_a_single_image_is_that_of_its_weights():
    model, guide, x, truth, _ = linear_gaussian(images=1)
    result = score(model, guide, x, 2000)
    assert "nan" not in repr(result) and "1 image," in repr(result) and "for the image" in result.verdict
    summary = result.summary()
    assert summary["standard_error"] is None and 0 < summary["monte_carlo_error"] < 0.1


@pytest.mark.parametrize(("samples", "images"), [(0, 5), (-1, 5), (10, 0)])
def test_nothing_to_score_is_refused(samples, images):
    model, guide, x = programs()
    with pytest.raises(ValueError, match="samples is" if images else "at least one image"):
        score(model, guide, x[:images], samples)


class Point(nn.Module):
    """A guide that puts all its mass on one point."""

    def __init__(self, delta):
        super().__init__()
        self.linear, self.delta = nn.Linear(PIXELS, 3), delta

    def forward(self, x):
        with pyro.plate("images", len(x)):
            return pyro.sample("z", self.delta(self.linear(x.flatten(1))))


@pytest.mark.parametrize(
    "delta",
    [
        pytest.param(lambda v: dist.Delta(v, event_dim=1), id="Delta(v, event_dim=1)"),
        pytest.param(lambda v: dist.Delta(v).to_event(1), id="Delta(v).to_event(1)"),
    ],
)
def test_a_delta_guide_is_refused(delta):
    model, _, x = programs()
    with pytest.raises(ValueError, match="'z' is a Delta"):
        score(model, Point(delta), x, 10)


def test_the_same_seed_scores_the_same_and_the_callers_numbers_go_on():
    model, guide, x = programs("vamp:3", "planar:3")
    before = torch.get_rng_state()
    first = score(model, guide, x, 20, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(score(model, guide, x, 20, seed=3).log_likelihood, first.log_likelihood)
    assert not torch.equal(score(model, guide, x, 20, seed=4).log_likelihood, first.log_likelihood)


def test_weights_leave_validation_and_gradients_as_they_were():
    model, guide, x = programs()

    def flags():
        return pyro.infer.util.is_validation_enabled(), dist.is_validation_enabled(), torch.is_grad_enabled()

    with pyro.validation_enabled(True):
        before = flags()
        score(model, guide, x, 10)
        assert flags() == before
        # Also while the caller holds a chunk, and where two are read side by side.
        for _ in zip(log_weights(model, guide, x, 4, rows=5), log_weights(model, guide, x, 4, rows=5)):
            during = flags()
        after = flags()
    assert after == before
    assert during == before


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is computed inside."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor) and t.is_floating_point()]
        self.numel = max([self.numel, *(t.untyped_storage().nbytes() // t.element_size() for t in tensors)])
        return result


@pytest.mark.parametrize(("prior", "flow"), [("standard", "none"), ("vamp:3", "planar:3")])
def test_memory_does_not_grow_with_samples(prior, flow):
    model, guide, x = programs(prior, flow)

    def peak(samples, rows):
        with Largest() as largest:
            score(model, guide, x[:2], samples, rows=rows)
        return largest.numel

    assert peak(2400, rows=400) == peak(200, rows=400) >= 400 * 60  # a chunk of rows in the decoder's hidden layer
    assert peak(2400, rows=800) == 2 * peak(2400, rows=400)


class Broken(nn.Module):
    def forward(self, z):
        raise RuntimeError("broken decoder")


def test_parts_are_constant_inside_only():
    prior = StandardNormal(2)
    with constant_parts(nn.ModuleList([prior])):
        assert prior() is prior()
    assert prior() is not prior()


@each_prior
def test_parts_change_again_after_scoring_even_where_it_fails(prior):
    model, guide, x = programs(prior)
    score(model, guide, x, 10)
    decoder, model.decoder = model.decoder, Broken()
    with pytest.raises(RuntimeError, match="broken decoder"):
        score(model, guide, x, 10)
    model.decoder = decoder
    assert all("forward" not in vars(part) for part in model.modules())
    before = model.prior().log_prob(torch.zeros(3))
    with torch.no_grad():
        for tensor in [*model.prior.parameters(), *model.prior.buffers(), *guide.parameters()]:
            tensor.mul_(0.8)
    assert not torch.equal(model.prior().log_prob(torch.zeros(3)), before)


def test_a_parts_own_forward_comes_back():
    prior = StandardNormal(2)
    own = functools.partial(type(prior).forward, prior)
    prior.forward = own
    with constant_parts(prior):
        assert prior() is prior()
    assert vars(prior).get("forward") is own


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_out_of_memory_halves_the_rows_and_loses_nothing(error, monkeypatch):
    model, guide, x = programs("vamp:3", "planar:3")
    expected = score(model, guide, x, 50, rows=250).log_likelihood
    sizes = []

    def decoder(z, forward=model.decoder.forward):
        sizes.append(len(z))
        if len(z) > 13:
            raise error
        return forward(z)

    monkeypatch.setattr(model.decoder, "forward", decoder)
    result = score(model, guide, x, 50, rows=250).log_likelihood
    # The program on five images, once more to look at its latents, and one sample to see whether the model has mass
    # there; the last chunk repeats ten samples.
    assert sizes == [5, 1, 1, 50, 25, 12, 12, 12, 12, 12]
    torch.testing.assert_close(result, expected, rtol=1e-7, atol=0)
    monkeypatch.setattr(model.decoder, "forward", lambda z: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score(model, guide, x, 50)


def test_rows_are_what_half_of_the_free_memory_holds(monkeypatch):
    cpu = torch.device("cpu")

    def compute(rows):
        torch.zeros(100_000)  # no row's: 400 kB
        a = torch.zeros(rows, 1000)
        return (a + 1).T.expand(7, 1000, rows)  # 8 kB a row; views are none

    monkeypatch.setattr(memory, "available_bytes", lambda device: 2_000_000)
    assert memory.rows_that_fit(compute, cpu) == (2_000_000 - 408_000) // 2 // 8000
    monkeypatch.setattr(memory, "available_bytes", lambda device: 100)
    assert memory.rows_that_fit(compute, cpu) == 1
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10**15)
    assert memory.rows_that_fit(compute, cpu) == memory.most_rows(cpu)


def test_looking_for_memory_changes_no_number(monkeypatch):
    model, guide, x = programs("mog:3", "planar:3")
    expected = score(model, guide, x, 50).log_likelihood
    monkeypatch.setattr(memory, "available_bytes", lambda device: 200_000)
    torch.testing.assert_close(score(model, guide, x, 50).log_likelihood, expected, rtol=1e-7, atol=0)
