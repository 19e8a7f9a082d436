"""What weights say of their own estimate: against definitions, known tails, and simulation."""

import json
import math

import pytest
import torch

from tests.likelihood.test_importance import linear_gaussian, programs
from vampyro.likelihood import Score, score
from vampyro.likelihood.scores import convergence, count_distinct, extrapolate, pareto_k, pareto_limit, sizes
from vampyro.runs.scoring import Partial


def pareto_weights(k, samples, images):
    """log w, w from a generalised Pareto distribution of shape k, moved to start at 1."""
    u = torch.rand(samples, images, dtype=torch.float64)
    return (1 + (u**-k - 1) / k).log()


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9, 1.5])
def test_the_tail_of_a_pareto_distribution_is_found(k):
    found = pareto_k(pareto_weights(k, 20_000, 40) + torch.linspace(-900, 900, 40))
    assert found.mean().item() == pytest.approx(k, abs=0.06)
    assert found.std() < 0.15


def test_a_gaussian_proposal_of_scale_s_has_the_tail_that_theory_says():
    """q = N(0, s²) for N(0, 1): P(w > t) falls as t^(-1/(1 - s²))."""
    z = 0.6 * torch.randn(50_000, 20, dtype=torch.float64)
    log_w = -0.5 * z.square() + 0.5 * (z / 0.6).square()
    assert pareto_k(log_w).mean().item() == pytest.approx(1 - 0.36, abs=0.1)


def test_no_tail_and_too_few_samples():
    assert pareto_k(torch.full((100, 3), 7.0)).tolist() == [0.0] * 3
    assert pareto_k(torch.randn(24, 3)).isnan().all() and not pareto_k(torch.randn(25, 3)).isnan().any()


@pytest.mark.parametrize("spread", [30.0, 300.0, 3000.0])
def test_weights_that_hang_on_one_sample_are_no_light_tail(spread):
    log_w = spread * torch.randn(200, 50, dtype=torch.float64) - 5000
    assert (pareto_k(log_w) > 0.7).all()
    one = torch.full((200, 1), -1000.0)
    one[7] = 0
    assert pareto_k(one).item() == math.inf
    result = Score.of(log_w)
    assert "do not suffice for 50" in result.verdict and json.dumps(result.summary(), allow_nan=False)


def test_the_curve_is_the_mean_over_groups():
    log_w = 3 * torch.randn(11, 2, dtype=torch.float64) - 500
    assert sizes(11) == [1, 2, 4, 8, 11] and sizes(1) == [1] and sizes(8) == [1, 2, 4, 8]
    curve = convergence(log_w)
    for row, size in zip(curve, sizes(11)):
        groups = [log_w[start : start + size] for start in range(0, 11 - size + 1, size)]
        brute = [(g - 500 * 0).logsumexp(0) - math.log(size) for g in groups]
        torch.testing.assert_close(row, torch.stack(brute).mean(0))
    torch.testing.assert_close(curve[0], log_w.mean(0))


def test_stated_intervals_cover_the_truth():
    """200 repetitions with k̂ < 0.5: 95 % of log p̂ ± 1.96 errors should hold log p; 90 to 99 % do."""
    model, guide, x, truth, _ = linear_gaussian(images=5, narrower=0.85)
    inside, heavy = [], []
    for seed in range(200):
        result = score(model, guide, x, 500, seed=seed)
        inside.append((result.log_likelihood - truth).abs() < 1.96 * result.monte_carlo_error)
        heavy.append(result.pareto_k)
    assert torch.stack(heavy).median() < 0.5
    assert 0.9 <= torch.stack(inside).double().mean() <= 0.99


def test_the_error_of_the_mean_is_that_of_independent_images():
    model, guide, x, truth, _ = linear_gaussian(images=40, narrower=0.9)
    means = torch.tensor([score(model, guide, x, 200, seed=s).log_likelihood.mean() for s in range(100)])
    stated = score(model, guide, x, 200).summary()["monte_carlo_error"]
    assert means.std().item() == pytest.approx(stated, rel=0.25)


@pytest.mark.parametrize(("narrower", "words"), [(0.95, "suffice for all 5 images"), (0.3, "do not suffice for")])
def test_a_guide_too_narrow_is_told_from_a_good_one(narrower, words):
    model, guide, x, truth, _ = linear_gaussian(images=5, narrower=narrower)
    result = score(model, guide, x, 2000)
    assert words in result.verdict and ("k̂ > 0.70" in result.verdict) == (narrower < 0.5)
    summary = result.summary()
    assert summary["pareto_k_limit"] == pytest.approx(1 - 1 / math.log10(2000))
    assert summary["pareto_k_heavy"] == (result.pareto_k > summary["pareto_k_limit"]).sum()
    assert "too few" in score(model, guide, x, 20).verdict


@pytest.mark.parametrize(("samples", "limit"), [(30, 0.32), (100, 0.5), (1000, 0.67), (2155, 0.7), (10**9, 0.7)])
def test_how_heavy_a_tail_may_be_depends_on_the_samples(samples, limit):
    """The figures of arXiv:1507.02646: 10^(1/(1 - k)) samples are the fewest for a tail of shape k."""
    assert pareto_limit(samples) == pytest.approx(limit, abs=0.005)
    assert limit == 0.7 or samples == pytest.approx(10 ** (1 / (1 - pareto_limit(samples))))


def test_a_tail_that_many_samples_tame_is_too_heavy_for_few():
    k, others = torch.tensor([0.45]).double(), torch.zeros(1).double()

    def of(samples):
        curve = torch.zeros(len(sizes(samples)), 1).double()
        return Score(others, others, others + 20, k, curve, others, samples)

    assert "30 samples do not suffice for 1 of 1 image:" in of(30).verdict and "k̂ > 0.32" in of(30).verdict
    assert "suffice for the image" in of(1000).verdict and "0.67 is the limit" in of(1000).verdict
    assert [of(samples).summary()["pareto_k_heavy"] for samples in (30, 1000)] == [1, 0]
    assert "k̂ > 0.32 for 1" in repr(of(30)) and "k̂ > 0.67 for 0" in repr(of(1000))
    assert pareto_limit(1) == pareto_limit(24) == pareto_limit(25)


@pytest.mark.parametrize(("samples", "words"), [(1, "1 sample is too few"), (24, "24 samples are too few")])
def test_the_verdict_counts_a_single_sample_in_the_singular(samples, words):
    assert words in Score.of(torch.zeros(samples, 3, dtype=torch.float64)).verdict


def test_the_verdict_says_that_a_mean_fell():
    curve = torch.tensor([[-3.0], [-2.0], [-2.5]]).double()
    one = torch.ones(1).double()
    for curve, change in ((curve, "decreased by 0.50"), (-curve / 2, "increased by 0.25")):
        assert f"From 2 to 4 samples the mean {change} nats." in Score(one, one, one, one, curve, 0 * one, 4).verdict


def test_scores_join_and_part():
    model, guide, x = programs("vamp:3", "planar:3")
    whole = score(model, guide, x, 60, rows=60)
    parts = Score.cat([whole[:2], whole[2:4], whole[4:]])
    for a, b in zip(whole.tensors(), parts.tensors()):
        assert torch.equal(a, b)
    assert len(whole) == 5 and len(whole[torch.tensor([3, 1])]) == 2


def test_an_interrupted_scoring_goes_on_to_the_same_figures(tmp_path, monkeypatch):
    model, guide, x = programs("vamp:3", "planar:3")
    whole = score(model, guide, x, 60, rows=8)
    monkeypatch.setattr("vampyro.runs.scoring.SECONDS", 0)
    path = tmp_path / "partial.npz"

    def stop_after(count):
        def progress(blocks):
            yield from blocks[:count]
            raise KeyboardInterrupt

        return progress

    for expected in (0, 2, 4):
        partial = Partial(path, {"seed": 0})
        done = partial.load()
        assert sum(map(len, done)) == expected
        with pytest.raises(KeyboardInterrupt):
            score(model, guide, x, 60, rows=8, progress=stop_after(2), done=done, keep=partial.add)
    assert Partial(path, {"seed": 1}).load() == []
    result = score(model, guide, x, 60, rows=8, done=Partial(path, {"seed": 0}).load())
    for a, b in zip(whole.tensors(), result.tensors()):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="other blocks"):
        score(model, guide, x, 60, rows=600, done=Partial(path, {"seed": 0}).load())
    path.write_bytes(path.read_bytes()[:100])
    assert Partial(path, {"seed": 0}).load() == []


def test_what_is_missing_is_said_with_an_interval_that_holds():
    """log w ~ N(-σ²/2, σ²): log p = 0, so -E[log p̂] is missing. 90 % intervals from 100 images, σ around 3."""

    def log_weights():
        sigma = 2.1 + 1.8 * torch.rand(100, dtype=torch.float64)
        return sigma * torch.randn(512, 100, dtype=torch.float64) - sigma**2 / 2

    curves = [convergence(log_weights()) for _ in range(100)]
    truth = -torch.stack([curve[-1].mean() for curve in curves]).mean().item()
    found = [extrapolate(curve, 512) for curve in curves]
    assert 0.3 < truth < 0.6 and sorted(f.estimate for f in found)[50] == pytest.approx(truth, rel=0.3)
    assert sum(f.low <= truth <= f.high for f in found) >= 85
    assert max(f.low for f in found) < truth  # the lower end is conservative


def test_what_is_missing_of_light_tails_is_the_last_rise():
    """With a variance the bias is σ²/2S: here 0.5·(e^0.25 - 1)/4096."""
    log_w = 0.5 * torch.randn(4096, 400, dtype=torch.float64) - 0.125
    missing = extrapolate(convergence(log_w), 4096)
    assert missing.estimate == pytest.approx(0.5 * math.expm1(0.25) / 4096, rel=0.5)
    more = torch.cat([log_w, log_w[:1000]])  # a number of samples that is not a power of two
    assert extrapolate(convergence(more), 5096).estimate < 0.001
    assert extrapolate(convergence(log_w[:, :9]), 4096) is extrapolate(convergence(log_w[:15]), 15) is None


def test_a_rise_that_does_not_slow_down_has_no_upper_limit():
    curve = torch.arange(9, dtype=torch.float64).unsqueeze(-1).expand(-1, 20) - 100
    missing = extrapolate(curve, 256)
    assert missing.high == missing.estimate == math.inf and missing.low == pytest.approx(1.0)
    assert "at least 1.00 nats too low" in str(missing)


def test_a_rise_of_nothing_is_not_called_a_loss():
    """k̂ is above its limit, and the mean falls by rounding alone: no number is given as missing."""
    values, curve = torch.zeros(60).double(), -1e-9 * torch.arange(11).double().unsqueeze(-1).expand(-1, 60)
    falling = Score(values, values, values + 20, values + 0.9, curve, values, 1024)
    rising = Score(values, values, values + 20, values + 0.9, -curve, values, 1024)
    for result in (falling, rising):
        assert not result.suffices and "too low" not in result.verdict.replace("0.00 nats too low (90 %", "")
    assert rising.missing.high == math.inf and "increased by 0.00 nats" in rising.verdict


def test_an_open_interval_does_not_say_that_the_rise_goes_on():
    """Of ten images the upper end is often infinite, although each doubling halves the rises (log w ~ N(0, 1))."""
    generator = torch.Generator().manual_seed(0)
    draws = (torch.randn(1000, 10, dtype=torch.float64, generator=generator) for _ in range(20))
    found = [extrapolate(convergence(log_w), 1000) for log_w in draws]
    opened = [missing for missing in found if missing.high == math.inf and missing.estimate < math.inf]
    assert opened
    for missing in opened:
        assert f"probably {missing.estimate:.2f} nats" in str(missing) and f"{missing.low:.2f} to ∞)" in str(missing)


@pytest.mark.parametrize("live", [0.0, 0.02])
def test_weights_of_zero_are_not_extrapolated(live):
    """At 1000 samples the last rises are those of groups of 32 and more, of which one often has weights of 0 only."""
    log_w = torch.randn(1000, 12, dtype=torch.float64)
    log_w[torch.rand(1000, 12, generator=torch.Generator().manual_seed(0)) >= live] = -math.inf
    result = Score.of(log_w)
    assert result.missing is None and result.summary()["missing"] is None and "nan" not in result.verdict


def test_the_verdict_says_how_much_is_probably_missing():
    log_w = 4 * torch.randn(1024, 60, dtype=torch.float64)
    result = Score.of(log_w)
    missing = result.missing
    assert f"probably {missing.estimate:.2f} nats too low (90 % interval {missing.low:.2f} to" in result.verdict
    assert result.summary()["missing"] == missing._asdict() and not result.suffices
    light = Score.of(0.1 * log_w)
    assert light.suffices and "probably" not in light.verdict and "From 512 to 1024 samples" in light.verdict


def test_a_score_of_few_samples_claims_no_tails():
    assert "too few for k̂)" in repr(Score.of(torch.randn(10, 4, dtype=torch.float64)))


def test_distinct_samples_are_counted_over_all_sites():
    bits, words = torch.randint(2, (200, 3, 4)).float(), torch.randint(3, (200, 3))
    bits[:, 0], words[:, 0] = 1.0, 2
    expected = [len({(*b.tolist(), w.item()) for b, w in zip(bits[:, n], words[:, n])}) for n in range(3)]
    assert count_distinct([bits, words]).tolist() == expected and expected[0] == 1 < expected[1]
