"""Posterior draws against a posterior in closed form, and the file that ArviZ reads."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from tests.helpers import gap
from vampyro import cli as run
from vampyro.likelihood import posterior_draws, score

W = torch.tensor([[1.0, 0.5], [-0.3, 0.8], [0.2, -1.0]])
NOISE = 0.7


def linear_gaussian(x=None, *, batch=1):
    """z ~ N(0, I₂), x | z ~ N(W z, 0.7² I₃)."""
    with pyro.plate("images", batch if x is None else len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1))
        return pyro.sample("x", dist.Normal(z @ W.T, torch.tensor(NOISE)).to_event(1), obs=x)


def prior_as_guide(x):
    with pyro.plate("images", len(x)):
        return pyro.sample("z", dist.Normal(torch.zeros(2), 1.5 * torch.ones(2)).to_event(1))


def test_moments_are_the_posterior_s():
    x = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 0.5], [-1.0, 1.0, 0.3]])
    draws = posterior_draws(linear_gaussian, prior_as_guide, x, samples=4000, proposals=100_000)
    precision = torch.eye(2) + W.T @ W / NOISE**2
    mean = x @ W / NOISE**2 @ precision.inverse()
    z = draws.values["z"]
    assert gap(z.mean(0), mean) < 0.04  # 4000 draws of deviation ½: 0.008 each
    for n in range(3):
        assert gap(torch.cov(z[:, n].T), precision.inverse()) < 0.04
    # What lies beside: log p(x | z), and the weight of each draw is log p(x, z) - log q(z).
    p = dist.Normal(z @ W.T, NOISE).to_event(1)
    assert gap(draws.log_likelihood, p.log_prob(x).double()) < 1e-4
    log_w = p.log_prob(x) + dist.Normal(0, 1).log_prob(z).sum(-1) - dist.Normal(0, 1.5).log_prob(z).sum(-1)
    assert gap(draws.log_weights, log_w.double()) < 1e-4
    exact = dist.MultivariateNormal(torch.zeros(3), W @ W.T + NOISE**2 * torch.eye(3)).log_prob(x)
    assert gap(draws.score.log_likelihood, exact.double()) < 0.02
    assert (draws.score.pareto_k < 0.5).all()


def test_what_is_masked_has_no_likelihood():
    x, seen = torch.randn(4, 3), torch.tensor([True, False, True, False])

    def in_part(x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1))
            with pyro.poutine.mask(mask=seen):
                return pyro.sample("x", dist.Normal(z @ W.T, torch.tensor(NOISE)).to_event(1), obs=x)

    draws = posterior_draws(in_part, prior_as_guide, x, 50)
    p = dist.Normal(draws.values["z"] @ W.T, NOISE).to_event(1)
    assert gap(draws.log_likelihood, p.log_prob(x).double() * seen) < 1e-4


def test_the_same_seed_the_same_draws_and_few_proposals_repeat():
    x = torch.zeros(2, 3)
    one, again = (posterior_draws(linear_gaussian, prior_as_guide, x, 50, proposals=5, seed=3) for _ in range(2))
    assert torch.equal(one.values["z"], again.values["z"])
    assert len(one.values["z"][:, 0].unique(dim=0)) <= 5
    with pytest.raises(ValueError, match="samples"):
        posterior_draws(linear_gaussian, prior_as_guide, x, 0)


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    flags = f"--dataset {dataset} --model two-level --hidden 8 --latent 3,2 --epochs 1 --samples 10 --batch-size 50"
    assert run.main([*flags.split(), "--out", str(folder)]) is None
    return folder


def test_the_file_is_read_back(trained, tmp_path):
    arviz = pytest.importorskip("arviz", reason="arviz is optional: pip install -r requirements-extras.txt")
    out = tmp_path / "new" / "draws.nc"
    assert run.main(["export", str(trained), "--images", "4", "--samples", "30", "--out", str(out)]) is None
    found = arviz.from_netcdf(out)
    assert found.posterior.z1.shape == (1, 30, 4, 3) and found.posterior.z2.shape == (1, 30, 4, 2)
    assert found.posterior.z1.dims[:3] == ("chain", "draw", "image")
    assert found.sample_stats.log_weight.shape == found.log_likelihood.x.shape == (1, 30, 4)
    assert found.observed_data.x.shape == (4, 1, 6, 5)
    assert found.importance.pareto_k.shape == (4,)
    assert (found.posterior.image.values == found.importance.image.values).all()
    assert found.attrs["proposals"] == 300
    # The weights' own estimate is what the same programs score to.
    from vampyro.catalogue.saving import load

    x = torch.from_numpy(found.observed_data.x.values)
    other = score(*load(trained), x, samples=2000).log_likelihood
    assert gap(torch.from_numpy(found.importance.log_likelihood.values), other) < 3


def test_without_arviz_it_says_so_first(monkeypatch):
    monkeypatch.setattr("vampyro.errors.find_spec", lambda package: None)
    assert "requirements-extras" in run.main(["export", "no-such-run"])
    assert "tensorboard needs" in run.main(["--tensorboard", "--dataset", "mnist5k"])
