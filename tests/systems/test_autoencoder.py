"""Points as posteriors, a prior fitted to codes, and a Normal proposal in place of points: against exact densities."""

import json
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import nn
from vampyro.priors import FittedMixture, StandardNormal

from tests.cli.test_train import call, train
from vampyro.catalogue import assemble, saving
from vampyro.diagnostics import decompose, gaps, surgery
from vampyro.distributions import DiagonalNormal
from vampyro.errors import SpecError
from vampyro.likelihood import score, scoring_guide
from vampyro.programs.layout import points_of
from vampyro.programs.randomness import seeded
from vampyro.reports.sections import SECTIONS
from vampyro.runs.config import RunConfig
from vampyro.runs.run_plots import generate
from vampyro.runs.scoring import load_images
from vampyro.training import elbo_parts, validation

POINTS = ["--posterior", "delta", "--prior", "standard", "--flow", "none"]


def codes(count=400, latent=3, dtype=torch.float64):
    """Two correlated clouds."""
    z = torch.randn(count, latent, dtype=dtype) @ torch.randn(latent, latent, dtype=dtype)
    z[: count // 4] = 0.3 * z[: count // 4] + 4
    return z


@pytest.mark.parametrize("components", [1, 2, 40])
def test_the_fitted_mixture_has_scikit_learns_density(components):
    z = codes()
    prior = FittedMixture.fit(z, components, seed=3)()
    expected = GaussianMixture(components, max_iter=1000, random_state=3).fit(z.numpy())
    points = torch.cat([z, 3 * torch.randn(50, 3, dtype=torch.float64)])
    ours = prior.log_prob(points).numpy()
    assert ours == pytest.approx(expected.score_samples(points.numpy()), rel=1e-9, abs=1e-6)
    with torch.no_grad():  # the way of scoring
        assert prior.log_prob(points).numpy() == pytest.approx(ours, abs=1e-6)


def test_a_fitted_mixture_of_float32_codes_scores_in_float64_and_draws_in_float32():
    module = FittedMixture.fit(codes(dtype=torch.float32), 2)
    z = module().sample((20_000,))
    assert z.dtype == torch.float32
    exact = module.double()().log_prob(z.double())
    assert (module.float()().log_prob(z.double()) - exact).abs().max() < 1e-12
    moments = module().components
    mean = (module.logits.exp().unsqueeze(-1) * moments.loc).sum(0)
    assert (z.mean(0) - mean).abs().max() < 5 * z.std(0).max() / math.sqrt(len(z))


def test_any_seed_of_a_run_fits_a_mixture():
    z = codes(50)
    fits = [FittedMixture.fit(z, 2, seed) for seed in (3, 2**32 + 3, 2**63 - 1)]
    assert torch.equal(fits[0].loc, fits[1].loc) and fits[2].loc.isfinite().all()


@pytest.mark.parametrize(
    ("z", "components", "message"),
    [
        (torch.randn(7, 3), 2, "at least 2 · 4 = 8 codes, got 7"),
        (torch.randn(50, 3).index_fill(0, torch.tensor(0), math.nan), 2, "not all finite"),
    ],
)
def test_what_a_mixture_cannot_be_fitted_to_is_said(z, components, message):
    with pytest.raises(ValueError, match=message):
        FittedMixture.fit(z, components)


class Linear(nn.Module):
    """p(z) = prior, p(x | z) = N(x; Wz, s²), of pixels (6, 1, 1)."""

    def __init__(self, weight, scale, prior):
        super().__init__()
        self.prior, self.scale = prior, scale
        self.register_buffer("weight", weight)

    def forward(self, x=None, *, batch=1):
        with pyro.plate("images", batch if x is None else len(x)):
            z = pyro.sample("z", self.prior())
            mean = (z @ self.weight.T.to(z.dtype))[..., None, None]
            return pyro.sample("x", dist.Normal(mean, self.scale).to_event(3), obs=x)


class Encoder(nn.Module):
    """x → q(z | x) around Ax: points without a deviation."""

    def __init__(self, matrix, deviation=None):
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.deviation = deviation

    def forward(self, x):
        with pyro.plate("images", len(x)):
            z = x.flatten(1) @ self.matrix.T
            if self.deviation is None:
                return pyro.sample("z", dist.Delta(z, event_dim=1))
            return pyro.sample("z", DiagonalNormal(z, self.deviation.expand_as(z)))


SCALE = 0.3


@pytest.fixture
def linear():
    """(model, W, x): x drawn from the model."""
    weight = torch.linalg.qr(torch.randn(6, 2))[0] * torch.tensor([1.0, 0.5])
    model = Linear(weight, SCALE, StandardNormal(2))
    return model, weight, model(batch=600)


def exact(weight, x, mean=None, covariance=None):
    """log N(x; W mean, W covariance Wᵀ + s² I)."""
    weight = weight.double()
    mean = torch.zeros(2) if mean is None else mean
    covariance = torch.eye(2) if covariance is None else covariance
    whole = weight @ covariance.double() @ weight.T + SCALE**2 * torch.eye(6)
    return dist.MultivariateNormal(weight @ mean.double(), whole).log_prob(x.flatten(1).double())


def posterior(weight):
    """The exact posterior's matrix and deviations under N(0, I): W has orthogonal columns."""
    precision = 1 + weight.square().sum(0) / SCALE**2
    return weight.T / SCALE**2 / precision.unsqueeze(-1), precision.rsqrt()


@pytest.mark.parametrize("point", ["mode", "likelihood's maximum"])
def test_the_proposal_of_points_finds_the_exact_likelihood(linear, point):
    """Also from the points of a plain auto-encoder, which knows nothing of the prior."""
    model, weight, x = linear
    matrix = posterior(weight)[0] if point == "mode" else torch.linalg.pinv(weight)
    guide = Encoder(matrix)
    proposal = scoring_guide(model, guide, x[100:], steps=500)
    result = score(model, proposal, x[:100], samples=2000)
    truth = exact(weight, x[:100])
    off = (result.log_likelihood - truth) / result.monte_carlo_error.clamp(min=1e-6)
    assert off.abs().max() < 5 and result.ess.min() > 1000
    assert result.pareto_k.max() < 0.7
    assert (result.elbo <= truth + 0.01).all() and (truth - result.elbo).mean() < 0.1


def test_the_proposal_under_a_fitted_prior(linear):
    """Codes of another cloud than N(0, I): one Gaussian in place of the prior, and log p(x) is that prior's."""
    model, weight, _ = linear
    spread = torch.tensor([[1.0, 0.0], [0.6, 0.5]])
    z = torch.tensor([1.0, -2.0]) + torch.randn(600, 2) @ spread.T
    x = (z @ weight.T + SCALE * torch.randn(600, 6))[..., None, None]
    guide = Encoder(torch.linalg.pinv(weight))
    model.prior = assemble.ex_post("gmm:1", model, guide, x)
    points = x.flatten(1) @ guide.matrix.T
    assert (model.prior.loc[0] - points.mean(0)).abs().max() < 1e-4
    covariance = model.prior.scale_tril[0] @ model.prior.scale_tril[0].T
    assert (covariance - points.T.cov(correction=0)).abs().max() < 1e-4
    result = score(model, scoring_guide(model, guide, x, steps=500), x[:100], samples=2000)
    truth = exact(weight, x[:100], model.prior.loc[0], covariance)
    off = (result.log_likelihood - truth) / result.monte_carlo_error.clamp(min=1e-6)
    assert off.abs().max() < 5 and result.ess.min() > 300


def test_codes_of_a_density_are_draws(linear):
    """The aggregate of exact posteriors is the prior itself: N(0, I), where means alone would be narrower."""
    model, weight, _ = linear
    x = model(batch=5000)
    prior = assemble.ex_post("gmm:1", model, Encoder(*posterior(weight)), x)
    assert prior.loc.abs().max() < 5 / math.sqrt(5000)
    covariance = prior.scale_tril[0] @ prior.scale_tril[0].T
    assert (covariance - torch.eye(2)).abs().max() < 5 * math.sqrt(2 / 5000)


def test_a_guide_with_a_density_scores_itself_and_points_do_not(linear):
    model, weight, x = linear
    matrix, deviation = posterior(weight)
    guide = Encoder(matrix, deviation)
    assert scoring_guide(model, guide, x) is guide
    for refuses in (score, decompose, surgery):
        with pytest.raises(ValueError, match="'z' is a Delta"):
            refuses(model, Encoder(matrix), x, 20)


@pytest.mark.parametrize("levels", ["vae", "two-level"])
def test_the_proposal_is_the_seeds_and_moves_nothing(levels):
    model, guide = assemble.assemble(model=levels, posterior="delta", hidden=(8,), latent=2, shape=(1, 3, 4))
    both, x = nn.ModuleList([model, guide]), torch.rand(50, 1, 3, 4).round()
    before = {name: p.detach().clone() for name, p in both.named_parameters()}
    state = torch.get_rng_state()
    scores = [score(model, scoring_guide(model, guide, x, seed=s, steps=20), x, 50).log_likelihood for s in (1, 1, 2)]
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(scores[0], scores[1]) and not torch.equal(scores[0], scores[2])
    assert all(torch.equal(p, before[name]) and p.requires_grad for name, p in both.named_parameters())
    assert set(points_of(guide, x)) == ({"z"} if levels == "vae" else {"z1", "z2"})


@pytest.mark.parametrize("images", [1, 3])
def test_a_proposal_may_be_fitted_to_a_single_image(linear, images):
    """Its unit is the model's deviation, 1 here, and not that of so many draws."""
    model, weight, x = linear
    proposal = scoring_guide(model, Encoder(posterior(weight)[0]), x[:images], steps=300)
    assert (proposal.heads["z"].unit - 1).abs().max() < 4.5 / math.sqrt(2 * 2000)
    result = score(model, proposal, x[:images], samples=500)
    off = (result.log_likelihood - exact(weight, x[:images])) / result.monte_carlo_error.clamp(min=1e-6)
    assert off.abs().max() < 5


def test_points_of_a_bounded_latent_are_refused():
    def model(x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Gamma(2.0, 1.0))
            pyro.sample("x", dist.Poisson(z), obs=x)

    def guide(x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Delta(x + 1.0))

    with pytest.raises(ValueError, match="latents on ℝⁿ, and the support of 'z'"):
        scoring_guide(model, guide, torch.ones(5))


def test_validation_of_points_is_their_objective(linear):
    model, weight, x = linear
    guide = Encoder(torch.linalg.pinv(weight))
    z = x.flatten(1) @ guide.matrix.T
    prior = dist.Normal(0.0, 1.0).log_prob(z).sum(1).mean().item()
    seen = dist.Normal(z @ weight.T, SCALE).to_event(1).log_prob(x.flatten(1)).mean().item()
    found = validation(model, guide, x, 0.5)
    assert list(found) == ["objective", "reconstruction", "log_prior"]
    assert list(found.values()) == pytest.approx([seen + 0.5 * prior, seen, prior], rel=1e-5)
    with pytest.raises(ValueError, match="'z' is a Delta"):
        elbo_parts(model, guide, x)
    exactly = Encoder(*posterior(weight))
    torch.manual_seed(0)
    expected = elbo_parts(model, exactly, x)
    torch.manual_seed(0)
    assert validation(model, exactly, x, 0.5) == expected


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    """A plain auto-encoder, scored under a mixture fitted to its codes."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert train(dataset, folder, *POINTS, "--beta", 0) in (None, 0)
    assert call("score", folder, "--prior", "gmm:2", "--device", "cpu") in (None, 0)
    return folder


def test_a_run_of_points_is_trained_by_its_objective(run):
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    fit = json.loads((run / "results.json").read_text())["fit"]
    assert all("elbo" not in line and line["objective"] == line["reconstruction"] for line in lines)  # β = 0
    assert fit["best_validation_objective"] == max(line["objective"] for line in lines)
    assert "best_validation_elbo" not in fit


def test_its_score_is_the_runs_own_again_and_says_what_took_the_points_place(run, capsys):
    results = json.loads((run / "results.json").read_text())
    assert call("score", run, "--device", "cpu") in (None, 0)
    printed = capsys.readouterr().out
    again = json.loads((run / "results.json").read_text())["measures"]["own"]["likelihood"]
    assert again["settings"]["proposal"].startswith("Normal") and again["proposal"] == "Normal"
    assert "of a Normal proposal, fitted to the validation images" in printed
    for name in ("log_likelihood", "elbo", "ess_median", "proposal"):
        assert again[name] == results["test"][name]
    assert again["elbo"] < again["log_likelihood"]


def test_the_fitted_prior_has_measures_a_report_and_samples_of_its_own(run):
    results = json.loads((run / "results.json").read_text())
    assert results["measures"]["gmm:2"]["likelihood"]["log_likelihood"] != results["test"]["log_likelihood"]
    assert (run / "measures-gmm-2" / "samples.png").read_bytes() != (run / "samples.png").read_bytes()
    assert "Normal, fitted to the validation images" in (run / "report-gmm-2.html").read_text()
    assert len(np.load(run / "measures-gmm-2" / "likelihood.npz")["log_likelihood"]) == 25


def test_samples_are_drawn_from_the_fitted_prior(run, tmp_path):
    file, config = tmp_path / "drawn.npz", json.loads((run / "config.json").read_text())
    command = ["sample", run, "--prior", "gmm:2", "--count", 7, "--npz", file, "--device", "cpu"]
    assert call(*command, "--out", tmp_path / "drawn.png") in (None, 0)
    model, guide = saving.load(run)
    images = load_images(RunConfig.from_dict(config)).images("train")
    model.prior = assemble.ex_post("gmm:2", model, guide, images, config["seed"])
    with torch.no_grad(), seeded(config["seed"]):
        expected = generate(model, 7).mean
    assert torch.equal(torch.from_numpy(np.load(file)["images"]), expected)
    assert "does not go with posterior 'delta'" in call("sample", run, "--prior", "aggregate", "--device", "cpu")


def test_every_measure_of_a_run_of_points(run, capsys, monkeypatch):
    monkeypatch.setattr("vampyro.diagnostics.gaps", lambda *args, seed: gaps(*args, samples=50, steps=20, seed=seed))
    monkeypatch.setattr("vampyro.reports.sections.samples.SAMPLES", 500)
    command = ["score", run, "--prior", "gmm:2", "--measures", "all", "--images", 12, "--temperatures", 5]
    assert call(*command, "--samples", 50, "--device", "cpu") in (None, 0)
    printed = capsys.readouterr().out
    assert "not measured" not in printed and printed.count("a Normal proposal in their place") == 4
    measures = json.loads((run / "results.json").read_text())["measures"]["gmm:2"]
    assert set(measures) == set(SECTIONS)
    assert measures["prior"]["components"] == 2
    assert measures["elbo"]["elbo"]["mean"] == pytest.approx(measures["likelihood"]["elbo"], abs=1)
    assert [name for name in measures if "proposal" not in measures[name]["settings"]] == ["prior", "samples"]


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ("gmm:60", "prior 'gmm:60': 60 Gaussians with full covariances in 3 dimensions need at least 60 · 4 = 240"),
        ("aggregate", "prior 'aggregate' does not go with posterior 'delta'"),
    ],
)
def test_a_prior_that_the_codes_do_not_allow_is_said(run, prior, words):
    status = call("score", run, "--prior", prior, "--device", "cpu")
    assert status.startswith("error: ") and words in status


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ("vamp", "unknown scoring prior 'vamp'"),
        ("gm", "did you mean 'gmm'?"),
        ("gmm:0", "prior 'gmm:0': N must be at least 1"),
    ],
)
def test_a_prior_to_score_with_is_read_before_anything_is_loaded(prior, words, capsys):
    assert call("score", "nowhere", "--prior", prior) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--objective", "iwae:3"], ["--prior", "mog"], ["--flow", "planar"]])
def test_what_has_no_meaning_over_points_leaves_no_folder(dataset, tmp_path, flags, capsys):
    assert train(dataset, tmp_path / "a", *POINTS, *flags) == 2
    assert "posterior 'delta'" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_vae_of_two_levels_is_scored_under_a_mixture_of_its_upper_codes(dataset, tmp_path):
    assert train(dataset, tmp_path / "a", "--model", "two-level", "--latent", "3,2", "--epochs", 1) in (None, 0)
    assert call("score", tmp_path / "a", "--prior", "gmm:2", "--device", "cpu") in (None, 0)
    measures = json.loads((tmp_path / "a" / "results.json").read_text())["measures"]
    assert "proposal" not in measures["gmm:2"]["likelihood"]
    with pytest.raises(SpecError, match="unknown scoring prior .vamp. .choose from own, aggregate, gmm"):
        assemble.ex_post("vamp:3", *saving.load(tmp_path / "a"), torch.zeros(5, 1, 6, 5))
