"""Likelihoods of images: against direct formulas, many digits, integrals and frequencies; then as heads of a model."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from vampyro.guides import Guide
from vampyro.models import VAE
from vampyro.priors import StandardNormal, VampPrior

from tests.helpers import gap
from vampyro.distributions import ContinuousBernoulli, DiscretisedLogistic
from vampyro.likelihood import score
from vampyro.nets import (
    MLP,
    BernoulliHead,
    ContinuousBernoulliHead,
    LogisticHead,
    NormalHead,
    NormalImageHead,
    SmallConvDecoder,
    SmallConvEncoder,
)
from vampyro.training import make_update

SHAPE = (3, 5, 6)
HEADS = {
    "bernoulli": BernoulliHead,
    "normal": NormalImageHead,
    "sigma": lambda features, shape: NormalImageHead(features, shape, learned=True),
    "logistic": LogisticHead,
    "continuous-bernoulli": ContinuousBernoulliHead,
}
every_head = pytest.mark.parametrize("name", HEADS)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def levels(count=256, dtype=torch.float64):
    return torch.arange(count, dtype=dtype) / (count - 1)


def images(name, *left):
    """Images that the head has a density for."""
    x = torch.rand(*left, *SHAPE)
    return x.round() if name == "bernoulli" else (255 * x).round() / 255


# The discretised logistic


def grid(locs, scales, dtype=torch.float64):
    """Every loc with every scale, (n, 1), to broadcast against levels."""
    return torch.cartesian_prod(torch.tensor(locs, dtype=dtype), torch.tensor(scales, dtype=dtype)).T.unsqueeze(-1)


def test_logistic_is_the_direct_formula_where_that_has_digits():
    loc, scale = grid([-0.1, 0.0, 0.3, 0.5012, 1.0, 1.2], [0.05, 0.2, 1.0])
    x = levels()
    upper, lower = (torch.sigmoid((x + side / 510 - loc) / scale) for side in (1, -1))
    lower[:, 0], upper[:, -1] = 0, 1
    truth, log_prob = upper - lower, DiscretisedLogistic(loc, scale).log_prob(x)
    assert truth.min() > 1e-12
    assert gap(log_prob.exp(), truth) < 1e-15  # the rounding of the truth
    assert gap(log_prob, truth.log()) < 1e-4


def many_digits(level, loc, scale, count):
    """log P in 1,000 decimal digits: enough to subtract what agrees in 900 of them."""
    with localcontext() as context:
        context.prec = 1000
        loc, scale, half = Decimal(loc), Decimal(scale), Decimal(1) / (2 * (count - 1))

        def below(side):
            return 1 / (1 + (-(2 * level * half + side * half - loc) / scale).exp())

        upper = Decimal(1) if level == count - 1 else below(1)
        lower = Decimal(0) if level == 0 else below(-1)
        return float((upper - lower).ln())


@pytest.mark.parametrize("scale", [1e-3, 0.011, 1.0, 1e4])
@pytest.mark.parametrize("loc", [-0.5, 0.0, 0.25, 1.25])
def test_logistic_keeps_its_digits_in_the_tails(loc, scale):
    """Where the probabilities are e^-1000 or the bin is a millionth of the scale."""
    chosen = torch.tensor([0, 1, 64, 128, 254, 255])
    truth = torch.tensor([many_digits(int(k), loc, scale, 256) for k in chosen], dtype=torch.float64)
    fine = DiscretisedLogistic(*(torch.tensor(t, dtype=torch.float64) for t in (loc, scale)))
    assert ((fine.log_prob(levels()[chosen]) - truth).abs() < 1e-12 * truth.abs() + 1e-12).all()
    coarse = DiscretisedLogistic(torch.tensor(loc), torch.tensor(scale)).log_prob(levels(dtype=torch.float32)[chosen])
    assert coarse.dtype == torch.float32
    assert ((coarse - truth).abs() < 2e-6 * truth.abs() + 1e-6 + 1e-7 / scale).all()


@every_dtype
@pytest.mark.parametrize("count", [2, 16, 256])
def test_logistic_sums_to_one(count, dtype):
    loc, scale = grid([-4.0, -0.002, 0.0, 0.37, 0.5, 1.0, 3.0], [1e-4, 2e-3, 0.011, 0.3, 1.0, 1e3], dtype)
    p = DiscretisedLogistic(loc, scale, count).log_prob(levels(count, dtype)).exp()
    assert p.dtype == dtype
    assert gap(p.sum(-1), torch.ones_like(p[:, 0])) < (2e-5 if dtype == torch.float32 else 1e-12)


def test_logistic_gradients():
    loc, scale = (t.clone().requires_grad_() for t in grid([-0.5, 0.0, 0.4, 1.0], [0.011, 0.1, 1.0]))
    x = levels()[[0, 1, 100, 254, 255]]
    assert torch.autograd.gradcheck(lambda loc, scale: DiscretisedLogistic(loc, scale).log_prob(x), (loc, scale))


def test_logistic_gradients_are_finite_in_float32_far_out():
    loc, scale = (
        t.clone().requires_grad_() for t in grid([-100.0, 0.0, 1.0, 100.0], [1e-4, 0.011, 1e4], torch.float32)
    )
    log_prob = DiscretisedLogistic(loc, scale).log_prob(levels(dtype=torch.float32))
    assert log_prob.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(log_prob.sum(), (loc, scale)))


@pytest.mark.parametrize(("loc", "scale"), [(0.4, 0.1), (-0.05, 0.05), (1.0, 1.0)])
def test_logistic_samples_have_its_probabilities(loc, scale):
    count, n = 16, 100_000
    p = DiscretisedLogistic(torch.tensor(loc), torch.tensor(scale), count)
    x = p.sample((n,))
    assert not x.requires_grad and p.log_prob(x).isfinite().all()
    seen = (x * (count - 1)).round().long().bincount(minlength=count) / n
    truth = p.log_prob(levels(count, torch.float32)).exp()
    assert ((seen - truth).abs() < 4.5 * (truth * (1 - truth) / n).sqrt() + 1 / n).all()


def test_logistic_mean_is_within_its_bound():
    loc, scale = grid([-1.0, -0.01, 0.0, 0.123, 0.5, 0.9, 1.3], [1e-4, 0.011, 0.05, 0.3, 1.0])
    p, step = DiscretisedLogistic(loc, scale), 1 / 255
    truth = (p.log_prob(levels()).exp() * levels()).sum(-1, keepdim=True)
    bound = (step**2 / (48 * scale)).clamp_max(step / 2)
    assert ((p.mean - truth).abs() <= bound + 1e-8).all()
    assert ((p.mean >= 0) & (p.mean <= 1)).all()


@every_dtype
def test_logistic_takes_every_byte_and_refuses_what_is_none(dtype):
    p = DiscretisedLogistic(torch.tensor(0.5), torch.tensor(0.1), validate_args=True)
    pixels = torch.arange(256, dtype=torch.uint8)
    for x in (pixels.to(dtype) / 255, pixels.to(dtype).mul(1 / 255)):
        assert p.log_prob(x).isfinite().all()
    for bad in (0.5, 1 / 255 + 1e-4, -1 / 255, 256 / 255, math.nan):
        with pytest.raises(ValueError, match="k/255"):
            p.log_prob(torch.tensor(bad, dtype=dtype))


def test_logistic_refuses_what_it_cannot_be():
    with pytest.raises(ValueError, match="at least 2"):
        DiscretisedLogistic(torch.tensor(0.5), torch.tensor(0.1), levels=1)
    with pytest.raises(ValueError, match="scale"):
        DiscretisedLogistic(torch.tensor(0.5), torch.tensor(0.0), validate_args=True)


# The continuous Bernoulli

LOGITS = [0.0, 1e-9, 1e-3, 0.0041, 0.1, 0.499999, 0.5, 0.500001, 2.0, 15.0, 17.0, 30.0, 100.0, 1e4]
LOGITS += [-logit for logit in LOGITS]


def integral(function):
    """∫₀¹ function, by Gauss's rule in cells that shrink towards both ends as exponentials do there."""
    nodes, weights = (torch.from_numpy(t) for t in np.polynomial.legendre.leggauss(20))
    edges = torch.cat([torch.zeros(1), torch.logspace(-7, math.log10(0.5), 60, dtype=torch.float64)])
    low, width = edges[:-1, None], edges.diff()[:, None]
    near = low + width * (nodes + 1) / 2
    return sum((function(x) * width * weights / 2).sum().item() for x in (near, 1 - near))


@every_dtype
@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_integrates_to_one_and_has_its_mean(logit, dtype):
    p = ContinuousBernoulli(torch.tensor(logit, dtype=dtype))
    tolerance = 1e-11 if dtype == torch.float64 else 1e-6
    assert abs(integral(lambda x: p.log_prob(x).exp()) - 1) < tolerance
    assert abs(integral(lambda x: x * p.log_prob(x).exp()) - p.mean.item()) < tolerance


@every_dtype
@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_continuous_bernoulli_has_the_gradient_of_an_exponential_family(x, dtype):
    """d log p/dl = x - mean, finite everywhere, to the precision of 1."""
    logits = torch.tensor(LOGITS, dtype=dtype, requires_grad=True)
    p = ContinuousBernoulli(logits)
    value = p.log_prob(torch.tensor(x, dtype=dtype))
    assert value.dtype == dtype and value.isfinite().all()
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gap(gradient, x - p.mean.detach()) < 8 * torch.finfo(dtype).eps


def test_continuous_bernoulli_gradients():
    logits = torch.tensor([-100.0, -0.7, -0.2, 0.0, 0.1, 0.45, 0.55, 5.0], dtype=torch.float64, requires_grad=True)
    x = torch.linspace(0, 1, 5, dtype=torch.float64).unsqueeze(-1)
    assert torch.autograd.gradcheck(lambda logits: ContinuousBernoulli(logits).log_prob(x), logits)
    assert torch.autograd.gradcheck(lambda logits: ContinuousBernoulli(logits).mean, logits)


def test_continuous_bernoulli_is_torchs_own_where_that_is_right():
    logits, x = torch.linspace(-9, 9, 101, dtype=torch.float64), torch.rand(7, 1, dtype=torch.float64)
    ours, torchs = ContinuousBernoulli(logits), dist.ContinuousBernoulli(logits=logits)
    assert gap(ours.log_prob(x), torchs.log_prob(x)) < 1e-11
    assert gap(ours.mean, torchs.mean) < 1e-11


def test_torchs_own_is_no_density_at_large_logits():
    """Why there is one of ours. Should this fail, torch has mended its own and ours may go."""
    p = dist.ContinuousBernoulli(logits=torch.tensor(30.0))
    assert abs(integral(lambda x: p.log_prob(x).exp()) - 0.53) < 0.01


@pytest.mark.parametrize("logit", [-30.0, -3.0, 0.0, 0.3, 8.0])
def test_continuous_bernoulli_samples(logit):
    """The distribution function at a sample is uniform: Kolmogorov's distance below its 1e-4 quantile."""
    n = 20_000
    x = ContinuousBernoulli(torch.tensor(logit)).sample((n,)).double().sort().values
    assert x[0] >= 0 and x[-1] <= 1
    cdf = x if logit == 0 else torch.expm1(logit * x) / math.expm1(logit)
    steps = torch.arange(n, dtype=torch.float64) / n
    assert torch.maximum((cdf - steps).abs(), (steps + 1 / n - cdf).abs()).max() < 2.23 / n**0.5


@every_dtype
def test_continuous_bernoulli_refuses_what_is_outside(dtype):
    p = ContinuousBernoulli(torch.tensor(0.5, dtype=dtype), validate_args=True)
    for bad in (-0.01, 1.01, math.nan):
        with pytest.raises(ValueError, match="support"):
            p.log_prob(torch.tensor(bad, dtype=dtype))


# Both, as Pyro wants them


@pytest.mark.parametrize("make", [
    lambda t: ContinuousBernoulli(4 * t - 2), lambda t: DiscretisedLogistic(t, 0.1 + t.square(), 16)
])  # fmt: skip
def test_expand_and_precision(make):
    p = make(torch.rand(3))
    wide, x = p.expand((2, 3)), p.sample((2,))
    assert type(wide) is type(p) and wide.batch_shape == (2, 3)
    assert torch.equal(wide.log_prob(x), p.log_prob(x)) and torch.equal(wide.mean, p.mean.expand(2, 3))
    assert wide.sample((4,)).shape == (4, 2, 3)
    assert p.log_prob(x).dtype == torch.float32 and p.log_prob(x.double()).dtype == torch.float64
    assert make(torch.rand(3).double()).sample().dtype == torch.float64
    event = p.to_event(1)
    assert torch.equal(event.log_prob(x), p.log_prob(x).sum(-1)) and event.event_shape == (3,)
    assert "\n" not in repr(p) and "batch 3" in repr(p) and "batch 2×3" in repr(wide)


# Heads


@every_head
@pytest.mark.parametrize("features", [8, (8, 5, 6)], ids=str)
@pytest.mark.parametrize("left", [(), (4,), (2, 4)], ids=str)
def test_a_head_gives_a_distribution_over_images(name, features, left):
    head = HEADS[name](features, SHAPE)
    h = torch.randn(*left, *((features,) if features == 8 else features), requires_grad=True)
    p, x = head(h), images(name, *left)
    assert (p.batch_shape, p.event_shape) == (left, SHAPE)
    assert p.mean.shape == (*left, *SHAPE) and 0 <= p.mean.min() and p.mean.max() <= 1
    assert p.sample().shape == (*left, *SHAPE)
    log_prob = p.log_prob(x)
    assert log_prob.shape == left and log_prob.dtype == torch.float32
    assert head.double()(h.double()).log_prob(x.double()).dtype == torch.float64
    log_prob = head(h.double()).log_prob(x.double())
    for gradient in torch.autograd.grad(log_prob.sum(), [h, *head.parameters()]):
        assert gradient.isfinite().all() and gradient.abs().max() > 0


@every_head
def test_a_head_says_its_features_and_shape_in_one_line(name):
    assert "(300 → 1×28×28" in repr(HEADS[name](300, (1, 28, 28)))
    text = repr(HEADS[name]((64, 28, 28), (1, 28, 28)))
    assert "(64×28×28 → 1×28×28" in text and "\n" not in text


def test_normal_images_are_torchs_own_and_the_squared_error():
    torch.set_default_dtype(torch.float64)
    head, h, x = NormalImageHead(8, SHAPE), torch.randn(4, 8), torch.rand(4, *SHAPE)
    loc = (head.linear.weight @ h.T + head.linear.bias[:, None]).T.sigmoid().reshape(4, *SHAPE)
    assert gap(head(h).mean, loc) < 1e-14
    constant = 0.5 * x[0].numel() * math.log(2 * math.pi)
    assert gap(-head(h).log_prob(x), 0.5 * (x - loc).square().flatten(1).sum(-1) + constant) < 1e-12
    learned = NormalImageHead(8, SHAPE, learned=True)
    learned.load_state_dict({**head.state_dict(), "log_scale": torch.tensor(-1.5)})
    truth = torch.distributions.Normal(loc, math.exp(-1.5)).log_prob(x).flatten(1).sum(-1)
    assert gap(learned(h).log_prob(x), truth) < 1e-11
    assert [name for name, _ in head.named_parameters()] == ["linear.weight", "linear.bias"]


def test_the_learned_scale_is_best_at_the_root_mean_squared_error():
    torch.set_default_dtype(torch.float64)
    head, h, x = NormalImageHead(8, SHAPE, learned=True), torch.randn(4, 8), torch.rand(4, *SHAPE)
    head.log_scale.data = 0.5 * (x - head(h).mean).square().mean().log()
    (gradient,) = torch.autograd.grad(head(h).log_prob(x).sum(), head.log_scale)
    assert abs(gradient.item()) < 1e-9


def test_logistic_head_starts_where_every_pixel_has_a_gradient():
    """And its scales stay within the bounds, whatever the features."""
    head = LogisticHead(8, SHAPE)
    p = head(1e4 * torch.randn(50, 8)).base_dist
    assert math.exp(-4.5) * 0.999 <= p.scale.min() and p.scale.max() <= 1
    _, log_scale = head.linear(torch.randn(50, 8))
    (gradient,) = torch.autograd.grad((-4.5 * log_scale.sigmoid()).sum(), log_scale)
    assert gradient.abs().min() > 0.1


# In a model


@pytest.mark.parametrize("conv", [False, True])
@every_head
def test_every_likelihood_trains_and_scores(name, conv):
    """With a VampPrior, whose pseudo-inputs pass the same encoder, and particles on the left when scored."""
    encoder = SmallConvEncoder(SHAPE, (8,), "leaky-relu") if conv else MLP(SHAPE, (8,))
    body = [MLP((2,), (8,))] + ([SmallConvDecoder(8, SHAPE, "leaky-relu")] if conv else [])
    guide = Guide(encoder, NormalHead(encoder.features, 2))
    decoder = nn.Sequential(*body, HEADS[name](body[-1].features, SHAPE))
    x = images(name, 6)
    for prior in (StandardNormal(2), VampPrior(guide.q, SHAPE, components=3)):
        model = VAE(prior, decoder)
        before = score(model, guide, x, samples=20)
        assert before.log_likelihood.isfinite().all()
        update = make_update(model, guide)
        losses = [float(update(x)["loss"]) for _ in range(60)]
        assert sum(losses[-10:]) < sum(losses[:10])
        assert score(model, guide, x, samples=20).log_likelihood.mean() > before.log_likelihood.mean()
        assert model(batch=2).shape == (2, *SHAPE)
