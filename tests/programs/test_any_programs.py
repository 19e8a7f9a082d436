"""Programs and trainers that are not ours: what Pyro allows is computed right, or refused with the reason."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch.distributions import constraints
from vampyro.guides import Guide
from vampyro.models import VAE
from vampyro.priors import StandardNormal, VampPrior

from tests.helpers import find
from vampyro.catalogue import Part, known
from vampyro.catalogue.assemble import assemble
from vampyro.catalogue.compatibility import check_likelihood
from vampyro.diagnostics import active_units, decompose
from vampyro.likelihood import ais, posterior_draws, score
from vampyro.nets.likelihoods import ToImage
from vampyro.objectives import IWAE, Relaxed, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from vampyro.runs import config as flags
from vampyro.training import elbo_parts, make_update, register


def chain(x):
    """p(z2) p(z1 | z2) p(x | z1)."""
    with pyro.plate("images", len(x)):
        z2 = pyro.sample("z2", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        z1 = pyro.sample("z1", dist.Normal(z2, 0.5).to_event(1))
        pyro.sample("x", dist.Normal(z1, 1.0).to_event(1), obs=x)


def upward(x):
    """q(z1 | x) q(z2 | z1), as Burda et al. 2016 draw: arXiv:1509.00519."""
    with pyro.plate("images", len(x)):
        z1 = pyro.sample("z1", dist.Normal(0.5 * x, 0.7).to_event(1))
        pyro.sample("z2", dist.Normal(0.8 * z1, 0.45).to_event(1))


def elbo_of_the_chain(x):
    """E_q[log p(x, z1, z2) - log q(z1, z2 | x)] over (z1, z2), two Normals, in closed form; summed over images."""
    square = (0.5 * x).square() + 0.7**2  # E z1²
    apart = (0.2**2) * square + 0.45**2  # E (z1 - z2)²
    log_p = -0.5 * (0.64 * square + 0.45**2 + apart / 0.25 + (x - 0.5 * x).square() + 0.49)
    entropy = 2 * (0.5 + 0.5 * math.log(2 * math.pi)) + math.log(0.7 * 0.45)
    return (log_p - 1.5 * math.log(2 * math.pi) - math.log(0.5) + entropy).sum().item()


def test_closed_forms_stand_only_where_the_guide_draws_downward():
    x = 1.5 * torch.randn(20, 1)
    exact = elbo_of_the_chain(x) / len(x)
    many = x.repeat(2000, 1)
    for objective in (Trace_ELBO(), TraceMeanField_ELBO()):
        assert -objective.differentiable_loss(chain, upward, many) / len(many) == pytest.approx(exact, abs=0.03)
    parts = decompose(chain, upward, x, samples=2000)
    assert parts.elbo.mean == pytest.approx(exact, abs=0.03)
    assert parts.rate + parts.distortion == pytest.approx(-exact, abs=0.03)


def in_a_plate(total):
    """A linear model and its guide, in a plate of `total` images of which each call sees some."""

    def plate(x):
        return pyro.plate("images", total or len(x), subsample=torch.arange(len(x)) if total else None)

    def model(x):
        with plate(x):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with plate(x):
            pyro.sample("z", dist.Normal(0.5 * x, 0.5**0.5).to_event(1))  # the posterior: each weight is p(x)

    return model, guide


def test_a_plate_that_is_given_a_batch_scales_no_likelihood():
    x = torch.randn(7, 1)
    exact = dist.Normal(0.0, 2**0.5).log_prob(x[:, 0])
    model, guide = in_a_plate(total=1000)
    assert score(model, guide, x, samples=3).log_likelihood.tolist() == pytest.approx(exact.tolist(), abs=1e-5)
    assert elbo_parts(model, guide, x)["elbo"] == pytest.approx(exact.mean().item(), abs=1e-5)
    assert posterior_draws(model, guide, x, 3).score.elbo.tolist() == pytest.approx(exact.tolist(), abs=1e-5)
    annealed, of_one = (ais(m, x, chains=6, temperatures=20) for m in (model, in_a_plate(None)[0]))
    assert annealed.log_likelihood.tolist() == pytest.approx(of_one.log_likelihood.tolist(), abs=1e-6)


@pytest.mark.parametrize("posterior", ["normal", "bernoulli"])
def test_stock_svi_trains_what_our_objectives_say(posterior):
    model, guide = assemble(posterior=posterior, hidden=(8,), latent=3, shape=(1, 4, 4))
    x = torch.rand(6, 1, 4, 4).round()
    if posterior == "normal":
        objectives = [Trace_ELBO(), TraceMeanField_ELBO(), IWAE(5)]
    else:
        baseline = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
        objectives = [TraceEnum_ELBO(), Relaxed(Trace_ELBO()), TraceGraph_ELBO(baseline)]
    parameters = [*model.parameters(), *guide.parameters()]
    for objective in objectives:
        pyro.clear_param_store()
        torch.manual_seed(1)
        loss = objective.differentiable_loss(model, guide, x)
        expected = torch.autograd.grad(loss, parameters)
        seen = []

        def optimizer(found):
            seen.extend(parameter.grad.clone() for parameter in parameters)
            assert set(map(id, found)) == set(map(id, parameters))

        svi = SVI(register(model), register(guide), pyro.optim.SGD({"lr": 0.0}), objective)
        svi.optim = optimizer
        torch.manual_seed(1)
        assert svi.step(x) == pytest.approx(loss.item(), rel=1e-6)
        for gradient, ours in zip(seen, expected):
            torch.testing.assert_close(gradient, ours)


class PyroDecoder(PyroModule):
    def __init__(self):
        super().__init__()
        self.net = PyroModule[nn.Linear](2, 5)
        self.scale = PyroParam(torch.tensor(2.0), constraints.positive)

    def forward(self, x):
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.net(z), self.scale).to_event(1), obs=x)


class PyroEncoder(PyroModule):
    def __init__(self):
        super().__init__()
        self.net = PyroModule[nn.Linear](5, 2)

    def forward(self, x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Normal(self.net(x), 0.5).to_event(1))


def test_pyro_modules_are_trained_as_modules():
    model, guide = PyroDecoder(), PyroEncoder()
    x = torch.randn(30, 5)
    update = make_update(model, guide, lr=0.01)
    before = {name: parameter.detach().clone() for name, parameter in update.parameters.items()}
    losses = [update(x)["loss"].item() for _ in range(100)]
    assert len(before) == 5 and losses[-1] < losses[0] - 0.3
    assert all(not torch.equal(before[name], parameter) for name, parameter in update.parameters.items())
    with pytest.raises(ValueError, match="'scale' is an earlier module's"):  # of that name, in Pyro's store
        make_update(PyroDecoder(), PyroEncoder())(x)
    with pyro.settings.context(module_local_params=True):
        assert make_update(PyroDecoder(), PyroEncoder())(x)["loss"] > 0


def test_param_sites_of_no_module_are_refused_by_name():
    decoder = PyroDecoder()

    def model(x):
        pyro.param("width", torch.tensor(1.0))
        return decoder(x)

    program = nn.Module()
    program.forward = model
    with pytest.raises(ValueError, match="not the param sites .*'width', 'scale': use engine='svi'"):
        make_update(program, PyroEncoder())(torch.randn(3, 5))


@pytest.mark.parametrize("before", [False, True], ids=["first", "again"])
def test_stock_pyro_trains_param_sites_of_no_module(before, caplog):
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder = PyroDecoder()

        def forward(self, x):
            return self.decoder(x - pyro.param("shift", torch.zeros(5)))

    for _ in range(1 + before):  # the second time Pyro's store has what the first one left
        update = make_update(Shifted(), PyroEncoder(), engine="svi", lr=0.1)
        was = pyro.param("shift", torch.zeros(5)).detach().clone()
        update(torch.randn(30, 5))
        assert (pyro.param("shift") != was).all()
    assert caplog.messages[0] == "checkpoints do not contain the param sites ['shift']: save Pyro's store"


def exchanged(model, guide):
    return guide, model


def of_two_levels(model, guide):
    return assemble(model="two-level", hidden=(8,), latent=2, shape=(1, 4, 4))[0], guide


def observing_nothing(model, guide):
    program = nn.Module()
    program.own, program.forward = model, lambda x: model(batch=len(x))
    return program, guide


def of_another_size(model, guide):
    return assemble(hidden=(8,), latent=3, shape=(1, 4, 4))[0], guide


def of_an_earlier_guide(model, guide):
    return VAE(VampPrior(assemble(hidden=(8,), latent=2, shape=(1, 4, 4))[1].q, (1, 4, 4), 3), model.decoder), guide


def with_layers_in_a_list(model, guide):
    layers = [guide.body, guide.head]
    program = nn.Module()
    program.forward = lambda x: Guide(*layers)(x)
    return model, program


NO_PAIRS = {
    exchanged: "a guide draws latents, and this one observes 'x'; have model and guide changed places",
    of_two_levels: "only the model has 'z1', 'z2'; only the guide has 'z'",
    observing_nothing: "the model observes nothing: give its likelihood obs=x",
    of_another_size: r"'z' has a value of shape \(5, 2\), and its distribution has event shape \(3,\)",
    of_an_earlier_guide: "4 tensors that require gradients but are not parameters of model or guide",
    with_layers_in_a_list: "keep layers in an nn.ModuleList",
}


@pytest.mark.filterwarnings("ignore:Found")  # all that stock Pyro says
@pytest.mark.parametrize("engine", ["eager", "svi"])
@pytest.mark.parametrize("spoilt", NO_PAIRS, ids=lambda f: f.__name__)
def test_what_is_no_pair_is_not_trained(spoilt, engine):
    model, guide = assemble(hidden=(8,), latent=2, shape=(1, 4, 4))
    update = make_update(*spoilt(model, guide), engine=engine)
    with pytest.raises(ValueError, match=NO_PAIRS[spoilt]):
        update(torch.zeros(5, 1, 4, 4))


@pytest.mark.filterwarnings("ignore:Found non-auxiliary")  # a deterministic
def test_what_pyro_allows_beside_data_and_latents_is_trained():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.loc = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            with pyro.plate("images", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
                pyro.deterministic("mean", z + self.loc, event_dim=1)
                pyro.sample("x", dist.Normal(z + self.loc, 1.0).to_event(1), obs=x)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            with pyro.plate("images", len(x)):
                a = pyro.sample("a", dist.Normal(torch.zeros(3), 1.0).to_event(1), infer={"is_auxiliary": True})
                loc = pyro.deterministic("loc", 0.5 * x + 0.1 * a, event_dim=1)
                pyro.factor("nothing", torch.zeros(len(x)), has_rsample=True)
                pyro.sample("z", dist.Normal(loc, self.scale).to_event(1))

    for engine in ("eager", "svi"):
        update = make_update(model := Model(), encoder := Encoder(), engine=engine)
        assert update(torch.randn(5, 3))["loss"].isfinite() and model.loc.all() and encoder.scale != 1


class Correlated(nn.Module):
    """q(z | x) = N(loc(h), L Lᵀ)."""

    def __init__(self, features, latent):
        super().__init__()
        self.loc, self.scale = nn.Linear(features, latent), nn.Parameter(torch.eye(latent))

    def forward(self, h):
        return dist.MultivariateNormal(self.loc(h), scale_tril=self.scale.tril())


class LaplaceHead(nn.Module):
    def __init__(self, features, shape):
        super().__init__()
        self.linear = ToImage(features, shape)

    def forward(self, h):
        return dist.Laplace(*self.linear(h), 0.3).to_event(3)


@pytest.mark.parametrize("model", ["vae", "two-level"])
@pytest.mark.parametrize("flow", ["none", "planar:2"])
def test_a_posterior_and_a_likelihood_of_ones_own_go_by_name(flow, model):
    own = [
        Part("posterior", "own", lambda spec, *sizes: Correlated(*sizes)),
        Part("likelihood", "own", lambda spec, *sizes: LaplaceHead(*sizes)),
    ]
    with known(own):
        config, *_ = flags.read(["--posterior", "own", "--likelihood", "own", "--prior", "vamp:3", "--flow", flow])
        check_likelihood("own", "levels", "grey images")
    parts = {name: getattr(config, name) for name in ("posterior", "likelihood", "prior", "flow")}
    programs = assemble(**parts, model=model, hidden=(8,), latent=2, shape=(1, 4, 4), parts=own)
    x = torch.rand(20, 1, 4, 4)
    update = make_update(*programs, lr=0.01)
    assert update(x)["loss"] > min(update(x)["loss"] for _ in range(50))
    assert score(*programs, x, samples=5).log_likelihood.isfinite().all()


def test_an_objective_that_is_none_is_refused_at_once():
    programs = assemble(hidden=(8,), latent=2, shape=(1, 4, 4))
    for engine, objective in (("eager", "iwae:5"), ("svi", pyro.infer.Trace_ELBO())):
        with pytest.raises(TypeError, match=f"engine {engine} needs a method"):
            make_update(*programs, engine=engine, objective=objective)
    assert make_update(*programs, objective=pyro.infer.Trace_ELBO())(torch.zeros(3, 1, 4, 4))["loss"] > 0


def bayesian(x):
    weight = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("images", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("x", dist.Normal((weight * z).sum(-1, keepdim=True), 1.0).to_event(1), obs=x)


def bayesian_guide(x):
    pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("images", len(x)):
        pyro.sample("z", dist.Normal(torch.zeros(len(x), 3), 1.0).to_event(1))


SHARING = ["elbo_parts", "validation", "score", "decompose", "gaps", "posterior_draws", "ais", "active_units"]


@pytest.mark.parametrize("name", [*SHARING, "surgery", "component_use", "code_use", "rate_distortion"])
def test_a_latent_that_images_share_is_refused_by_name(name):
    x, how = torch.randn(5, 1), {} if name in ("ais", "elbo_parts", "validation") else {"samples": 20}
    programs = (bayesian,) if name == "ais" else (bayesian, bayesian_guide)
    with pytest.raises(ValueError, match="each image's own, and the site 'w' is shared between images: its batch"):
        find(name)(*programs, x, **how)


def test_images_with_a_dimension_too_many_are_refused():
    model, guide = assemble(hidden=(8,), latent=2, shape=(1, 4, 4))
    for wrong in (torch.zeros(5, 1, 1, 4, 4), torch.zeros(1, 4, 4)):
        with pytest.raises(ValueError, match=r"images are of shape .*, expected \(N, 1, 4, 4\)"):
            model(wrong)
    assert active_units(model, guide, torch.rand(5, 1, 4, 4))["z"].variance.shape == (2,)


@pytest.mark.parametrize("name", ["score", "elbo_parts", "decompose", "ais", "posterior_draws", "gaps"])
def test_images_on_which_the_model_has_no_mass_are_refused(name):
    model, guide = assemble(hidden=(8,), latent=2, shape=(1, 4, 4))
    x = torch.rand(5, 1, 4, 4)
    x[:, 0, 0, 0] = 2.0
    programs = (model,) if name == "ais" else (model, guide)
    with pytest.raises(ValueError, match="no mass on these images: its site 'x' lives on Boolean.* to 2: binarise"):
        find(name)(*programs, x)


def test_images_may_be_single_numbers():
    decoder = nn.Module()
    decoder.forward = lambda z: dist.Normal(z.sum(-1), 1.0)
    assert pyro.poutine.trace(VAE(StandardNormal(2), decoder)).get_trace(torch.zeros(4)).nodes["x"]["value"].shape == (
        4,
    )
