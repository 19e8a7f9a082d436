"""The introspective objective: each player's gradient, who stands still when, and the step round them."""

from functools import partial

import pytest
import torch
from torch import nn

from tests.cli.test_train import assert_same, call, state, train
from tests.helpers import Waits, as_trained
from vampyro.catalogue.assemble import assemble
from vampyro.objectives import Introspective, TraceMeanField_ELBO
from vampyro.objectives.introspective import own_images
from vampyro.training import fit, make_update
from vampyro.training.checkpoint import load_checkpoint, save_checkpoint
from vampyro.training.engines.eager import EagerStep
from vampyro.training.engines.introspective import IntrospectiveStep

SHAPE = (1, 4, 5)
GRID = [("vae", "standard", "none"), ("vae", "vamp:3:weighted", "planar:2"), ("two-level", "vamp:3", "planar:2")]
GRID += [("vae", "coupling:2", "iaf:2"), ("two-level", "coupling:2", "none")]
each_of_grid = pytest.mark.parametrize(("kind", "prior", "flow"), GRID, ids=[" ".join(parts) for parts in GRID])


game = partial(Introspective, reconstructions=True)


def images(count=7):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(3)).round().to(torch.get_default_dtype())


def programs(kind="vae", prior="standard", flow="none", seed=0, **parts):
    torch.manual_seed(seed)
    model, guide = assemble(model=kind, prior=prior, flow=flow, hidden=(8,), latent=3, shape=SHAPE, **parts)
    both = as_trained(nn.ModuleList([model, guide]), 1.0).to(torch.get_default_dtype())
    return model, guide, both


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)  # put back by fresh_state


def gradients(step, x, seed=1):
    """(loss, parts, {name: gradient}) of one step that changes nothing."""
    torch.manual_seed(seed)
    loss = step.backward(x)
    return loss, getattr(step, "parts", {}), {name: p.grad for name, p in step.parameters.items()}


def step_of(model, guide, objective, weight=0.7):
    step = IntrospectiveStep if isinstance(objective, Introspective) else EagerStep
    return step(model, guide, torch.tensor(weight), "adam", 1e-2, objective)


def by_hand(model, guide, x, margin, strength, weight):
    """Both losses of a VAE with a standard Normal prior, from the paper's formulas, with the step's random numbers."""

    def kl(images):
        q = guide.q(images)
        return 0.5 * (q.scale.square() + q.loc.square() - 1 - 2 * q.scale.log()).sum(-1)

    def draw(z):
        pixels = model.decoder(z)
        mean = pixels.logits.sigmoid()
        return torch.bernoulli(mean.detach()) + mean - mean.detach()

    torch.manual_seed(1)
    q = guide.q(x)
    z = q.loc + q.scale * torch.randn_like(q.loc)
    elbo = (model.decoder(z).log_prob(x) - weight * kl(x)).mean()
    sampled = draw(torch.randn_like(z))
    rebuilt = draw(z.detach())
    of_guide = -elbo + weight * strength * sum(
        (margin - kl(s.detach())).clamp(min=0).mean() for s in (rebuilt, sampled)
    )
    of_model = -elbo + weight * strength * sum(kl(s).mean() for s in (rebuilt, sampled))
    return of_guide, of_model, elbo, {"kl_data": kl(x), "kl_reconstructions": kl(rebuilt), "kl_samples": kl(sampled)}


@pytest.mark.parametrize("margin", [0.5, 3.0, 100.0])
def test_each_player_follows_the_gradient_of_its_own_formula(margin, float64):
    model, guide, _ = programs()
    loss, parts, found = gradients(step_of(model, guide, game(margin, 0.4)), images())
    of_guide, of_model, elbo, kls = by_hand(model, guide, images(), margin, 0.4, 0.7)
    assert loss.item() == pytest.approx(-elbo.item(), rel=1e-12)
    for name, values in kls.items():
        assert parts[name].item() == pytest.approx(values.mean().item(), rel=1e-9), name
    share = torch.cat([kls["kl_reconstructions"], kls["kl_samples"]]).lt(margin).double().mean()
    assert parts["below_margin"].item() == pytest.approx(share.item())
    for number, (player, formula) in enumerate([(model, of_model), (guide, of_guide)]):
        names = [f"{number}.{name}" for name, _ in player.named_parameters()]
        expected = torch.autograd.grad(formula, list(player.parameters()), retain_graph=True)
        for name, gradient in zip(names, expected):
            torch.testing.assert_close(found[name], gradient, rtol=1e-8, atol=1e-10, msg=name)
            assert gradient.abs().max() > 0, name


def test_without_reconstructions_their_terms_are_gone(float64):
    model, guide, _ = programs()
    _, parts, both = gradients(step_of(model, guide, game(1e3, 0.4)), images())
    _, fewer, found = gradients(step_of(model, guide, Introspective(1e3, 0.4)), images())
    assert parts.keys() - fewer.keys() == {"kl_reconstructions"}
    assert parts["kl_samples"].item() == pytest.approx(fewer["kl_samples"].item())
    torch.manual_seed(1)
    q = guide.q(images())
    z = q.rsample().detach()
    model(batch=7)
    mean = model.decoder(z).mean
    rebuilt = model.decoder(z).sample() + mean - mean.detach()
    q = guide.q(rebuilt)
    kl = 0.5 * (q.scale.square() + q.loc.square() - 1 - 2 * q.scale.log()).sum() / 7
    for number, player, sign in (0, model, 1), (1, guide, -1):
        terms = torch.autograd.grad(sign * 0.7 * 0.4 * kl, list(player.parameters()), retain_graph=True)
        for (name, _), term in zip(player.named_parameters(), terms):
            name = f"{number}.{name}"
            torch.testing.assert_close(both[name] - found[name], term, rtol=1e-7, atol=1e-9, msg=name)


@each_of_grid
def test_without_the_game_it_is_the_elbo_bit_for_bit(kind, prior, flow):
    """At equal noise, loss and gradients of every parameter."""
    model, guide, _ = programs(kind, prior, flow)
    loss, parts, found = gradients(step_of(model, guide, game(5, strength=0)), images())
    expected_loss, _, expected = gradients(step_of(model, guide, TraceMeanField_ELBO()), images())
    assert torch.equal(loss, expected_loss)
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name
    played = gradients(step_of(model, guide, game(50, strength=0.5)), images())
    assert torch.equal(played[0], loss), "the game is no part of the reported loss"


@each_of_grid
def test_beyond_the_margin_the_guide_has_no_more_to_gain(kind, prior, flow):
    """There its gradient is the ELBO's, while the model's goes on."""
    model, guide, _ = programs(kind, prior, flow)
    _, _, elbo = gradients(step_of(model, guide, game(1e-6, strength=0)), images())
    _, parts, found = gradients(step_of(model, guide, game(1e-6, strength=0.5)), images())
    if prior == "standard":  # elsewhere one z may have a negative log q - log p
        assert parts["below_margin"] == 0
    if parts["below_margin"] == 0:
        assert all(torch.equal(found[name], elbo[name]) for name in found if name.startswith("1."))
    assert any(not torch.equal(found[name], elbo[name]) for name in found if name.startswith("0."))


@each_of_grid
def test_each_players_gradient_knows_its_own_loss_alone(kind, prior, flow):
    """The model's has nothing of the margin, and with every image beyond its reach the guide's grows as α does."""
    model, guide, _ = programs(kind, prior, flow)
    runs = {
        key: gradients(step_of(model, guide, game(*key)), images())[2]
        for key in [(1e3, 0.0), (1e3, 0.5), (2e3, 0.5), (1e3, 1.0)]
    }
    for name in runs[1e3, 0.0]:
        none, half, further, full = (run[name] for run in runs.values())
        assert torch.equal(half, further), name  # a hinge's slope does not depend on how far it is
        torch.testing.assert_close(full - none, 2 * (half - none), rtol=1e-3, atol=1e-4, msg=name)
    assert any(not torch.equal(run, none) for run, none in zip(runs[1e3, 0.5].values(), runs[1e3, 0.0].values()))


@pytest.mark.parametrize("kind", ["vae", "two-level"])
@pytest.mark.parametrize("prior", ["vamp:3:weighted", "mog:3:weighted"])
def test_the_prior_learns_from_data_alone(kind, prior):
    """Where its samples carry no gradient; the rest of the model plays."""
    model, guide, _ = programs(kind, prior, "planar:2")
    without, played = (gradients(step_of(model, guide, game(50, a)), images())[2] for a in (0, 0.5))
    assert [name for name in played if name.startswith("0.prior")]
    for name in (name for name in played if name.startswith("0.")):
        assert torch.equal(played[name], without[name]) == name.startswith("0.prior"), name


def test_under_a_vamp_prior_the_guide_cannot_win_by_moving_the_prior(float64):
    """Its part in the game is the gradient of Σ [m - log q(z | x_s) + log p(z)]₊ with the components held."""
    model, guide, _ = programs("vae", "vamp:3", "planar:2")
    without, played = (gradients(step_of(model, guide, game(1e3, a), 1.0), images())[2] for a in (0, 0.5))
    torch.manual_seed(1)
    z = guide.q(images()).sample()
    sampled = model.decoder(model.prior().sample((7,))).sample()
    rebuilt = model.decoder(z).sample()
    with torch.no_grad():
        components = guide.q(model.prior.pseudo_inputs())
    own = torch.cat([sampled, rebuilt])
    q = guide.q(own)
    z = q.rsample()
    log_p = torch.stack([components.log_prob(point.expand(3, 3)) for point in z]).logsumexp(-1)
    formula = 0.5 * (log_p - q.log_prob(z)).sum() / 7
    for (name, p), gradient in zip(guide.named_parameters(), torch.autograd.grad(formula, list(guide.parameters()))):
        difference = played[f"1.{name}"] - without[f"1.{name}"]
        torch.testing.assert_close(difference, gradient, rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal", "logistic", "continuous-bernoulli"])
def test_its_own_images_are_such_as_it_is_shown(likelihood):
    model, _, _ = programs(likelihood=likelihood)
    sites = {"z": {"value": torch.randn(6, 3), "is_observed": False}, "x": {"is_observed": True}}
    own = own_images(model, sites, {"z": sites["z"]}, 6, reconstructions=True)
    assert list(own) == ["samples", "reconstructions"]
    rebuilt, own = own["reconstructions"], torch.cat(list(own.values()))
    assert own.shape == (12, *SHAPE) and own.requires_grad
    assert set(own.unique().tolist()) == {0.0, 1.0} if likelihood == "bernoulli" else len(own.unique()) > 100
    mean = model.decoder(sites["z"]["value"]).mean
    weights = torch.randn_like(mean)
    parameters = list(model.parameters())
    ours = torch.autograd.grad((rebuilt * weights).sum(), parameters, allow_unused=True)
    theirs = torch.autograd.grad((mean * weights).sum(), parameters, allow_unused=True)
    for a, b in zip(ours, theirs):
        assert (a is None) == (b is None) and (a is None or torch.allclose(a, b, atol=1e-6))


@pytest.mark.parametrize("optimizer", ["adam", "adam-normgrad"])
def test_a_saved_step_goes_on_exactly(optimizer, tmp_path):
    def steps(update, numbers):
        results = []
        for number in numbers:
            torch.manual_seed(number)
            results.append({name: value.item() for name, value in update(images()).items()})
        return results

    def begin(seed):
        *pair, both = programs("two-level", "vamp:3", "planar:2", seed=seed)
        return make_update(*pair, objective=game(20), optimizer=optimizer, lr=1e-2), both

    update, both = begin(0)
    steps(update, range(3))
    save_checkpoint(tmp_path / "state.pt", {"both": both.state_dict(), "update": update.state_dict()})
    expected = steps(update, range(3, 6))
    update, again = begin(9)
    state = load_checkpoint(tmp_path / "state.pt")
    again.load_state_dict(state["both"]), update.load_state_dict(state["update"])
    assert steps(update, range(3, 6)) == expected
    assert all(torch.equal(p, again.get_parameter(name)) for name, p in both.named_parameters())


@each_of_grid
def test_no_step_waits_for_the_device(kind, prior, flow):
    model, guide, _ = programs(kind, prior, flow)
    step = step_of(model, guide, game(20))
    step(images())
    with Waits() as waits:
        step.backward(images())
    assert not waits.count


def test_one_optimiser_over_both_players_is_two(float64):
    """Each player's parameters move as under an Adam of its own."""
    results = []
    for two in (False, True):
        model, guide, both = programs()
        step = step_of(model, guide, game(20, 0.4))
        optimizers = [torch.optim.Adam(p.parameters(), lr=1e-2) for p in (model, guide)] if two else [step.optimizer]
        for number in range(4):
            gradients(step, images(), seed=number)
            for optimizer in optimizers:
                optimizer.step()
        results.append(torch.cat([p.detach().flatten() for p in both.parameters()]))
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)


def test_parts_are_logged_and_a_ramp_brings_in_the_game(float64):
    class Twice:
        device = torch.device("cpu")

        def batches(self, size):
            return iter([images(7), images(3)])

    model, guide, _ = programs("vae", "vamp:3", "planar:2")
    [line] = fit(make_update(model, guide, objective=game(20)), Twice(), epochs=1)
    assert list(line) == ["epoch", "loss", "kl_data", "kl_samples", "kl_reconstructions", "below_margin", "seconds"]
    model, guide, _ = programs()
    tiny = gradients(step_of(model, guide, game(50, 0.5), 1e-9), images())
    none = gradients(step_of(model, guide, game(50, 0.0), 1e-9), images())
    for name, gradient in tiny[2].items():
        torch.testing.assert_close(gradient, none[2][name], rtol=1e-4, atol=1e-7, msg=name)
    assert tiny[1]["kl_data"] > 0.1, "the parts are of the whole KL"


def test_processes_share_both_players_gradients():
    """`reduce` gets every parameter with its player's gradient, and the number of images."""
    model, guide, both = programs()
    objective, calls = game(20), []

    def reduce(loss, parameters, count):
        calls.append((len(parameters), all(p.grad is not None for p in parameters), count))
        return {"loss": loss, "images": count}

    update = make_update(model, guide, objective=objective, reduce=reduce)
    assert update(images())["images"] == 7 and "images" in update(images(0))
    assert calls == [(len(list(both.parameters())), True, count) for count in (7, 0)]


def test_what_cannot_be_is_said():
    model, guide, _ = programs()
    with pytest.raises(ValueError, match="Introspective trains by engine eager, not by 'compiled'"):
        make_update(model, guide, objective=game(20), engine="compiled")
    for arguments in [(0,), (-1,), (float("nan"),), (20, -0.1)]:
        with pytest.raises(ValueError, match="a margin above 0 and a strength of 0 or more"):
            Introspective(*arguments)
    guide.decoder = model.decoder
    with pytest.raises(ValueError, match="guide and model follow different losses, but share the parameters .*decoder"):
        make_update(model, guide, objective=game(20))


def test_from_the_command_line_it_finds_its_engine_and_resumes_bit_for_bit(dataset, tmp_path, capsys, monkeypatch):
    flags = ["--objective", "intro:20", "--cooldown", 0, "--warmup", 2]
    monkeypatch.setattr("vampyro.runs.device.COMPILE_FROM", 1)  # where any other objective would be compiled
    assert train(dataset, tmp_path / "whole", *flags, "--epochs", 4) is None
    assert train(dataset, tmp_path / "part", *flags, "--epochs", 2) is None
    assert call("--resume", tmp_path / "part", "--epochs", 4) is None
    (*_, whole), (*_, part) = state(tmp_path / "whole"), state(tmp_path / "part")
    assert_same(whole, part)
    assert {"loss", "kl_data", "kl_samples", "elbo"} < whole["metrics"][-1].keys()
    assert '"engine": "eager"' in (tmp_path / "whole" / "config.json").read_text()
    message = train(dataset, tmp_path / "none", *flags, "--engine", "compiled")
    assert message == (
        "error: --engine compiled cannot train --objective intro:20, which runs by eager: write --engine auto"
    )
    assert not (tmp_path / "none").exists()
