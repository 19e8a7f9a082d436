"""Stock Pyro trains the same programs, and the engines compute what it computes."""

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import nn

from vampyro.catalogue.assemble import assemble
from vampyro.catalogue.parts import FAMILIES
from vampyro.programs import compile as staged
from vampyro.training import make_update, register
from vampyro.training.checkpoint import load_checkpoint, save_checkpoint
from vampyro.training.engines.make import ENGINES as ALL
from vampyro.training.engines.optimizers import OPTIMIZERS

ENGINES = {name: engine for name, engine in ALL.items() if name != "graph" or torch.cuda.is_available()}

SHAPE = (1, 4, 5)


def images():
    return torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(3)).round()


def programs(prior="vamp:3:weighted", flow="planar:2", seed=0):
    torch.manual_seed(seed)
    model, guide = assemble(prior=prior, flow=flow, hidden=(8,), latent=3, shape=SHAPE)
    return model, guide, nn.ModuleList([model, guide])


def values(both):
    return {name: p.detach().clone() for name, p in both.named_parameters()}


def stock(model, guide):
    return SVI(register(model), register(guide), pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())


@pytest.mark.parametrize(
    "prior", [*sorted({*FAMILIES["prior"]} - {"autoregressive"}), "mog:3:weighted", "vamp:3:weighted"]
)
@pytest.mark.parametrize("flow", [*FAMILIES["flow"], "planar:2:shared"])
def test_stock_svi_moves_every_parameter(prior, flow):
    model, guide, both = programs(prior, flow)
    before, svi = values(both), stock(model, guide)
    for _ in range(2):
        svi.step(images())
    assert [name for name, p in both.named_parameters() if torch.equal(p, before[name])] == []


def test_two_pairs_train_in_one_process_and_keep_apart():
    (*first, first_both), (*second, second_both) = programs(seed=1), programs(seed=2)
    start, svi = values(first_both), stock(*first)
    svi.step(images())
    after_first = values(first_both)
    assert not any(torch.equal(after_first[name], start[name]) for name in start)

    start, svi = values(second_both), stock(*second)
    svi.step(images())
    after_second = values(second_both)
    for name in start:
        moved = (after_second[name] - start[name]).abs()
        assert 0 < moved.max() < 1.1e-3, name  # Adam's first step goes lr far, from where this pair started
        assert torch.equal(values(first_both)[name], after_first[name]), name
    assert any((after_second[name] - after_first[name]).abs().max() > 0.1 for name in start)


def trained(update, steps, first=0):
    losses = []
    for step in range(first, first + steps):
        torch.manual_seed(100 + step)
        losses.append(update(images().to(torch.get_default_dtype()))["loss"].item())
    return losses


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# Compiling takes seconds, and the compiled graph knows nothing of the optimiser.
SETTINGS = [
    (engine, optimizer, weight)
    for engine in sorted(ENGINES.keys() - {"svi"})
    for optimizer in OPTIMIZERS
    for weight in (None, 0.3)
    if engine == "eager" or (optimizer == "adam") == (weight is None)
]


@pytest.mark.parametrize(("engine", "optimizer", "weight"), SETTINGS)
def test_engines_compute_what_stock_pyro_computes(optimizer, weight, engine, float64):
    results = []
    for name in ("svi", engine):
        model, guide, both = programs()
        start = values(both)
        beta = None if weight is None else torch.tensor(weight)
        update = make_update(model, guide, weight=beta, optimizer=optimizer, lr=1e-2, engine=name)
        results.append((trained(update, 5), values(both)))
    (expected_losses, expected), (losses, parameters) = results
    assert losses == pytest.approx(expected_losses, rel=1e-9)
    assert expected_losses[0] != expected_losses[-1]
    for name in expected:
        torch.testing.assert_close(parameters[name], expected[name], rtol=0, atol=1e-6, msg=name)
        assert (expected[name] - start[name]).abs().max() > 1e-4, name


@pytest.mark.parametrize(
    ("engine", "optimizer"), [(e, o) for e in ENGINES for o in OPTIMIZERS if e != "compiled" or o == "adam"]
)
def test_a_saved_step_goes_on_exactly(engine, optimizer, tmp_path):
    model, guide, both = programs()
    update = make_update(model, guide, engine=engine, optimizer=optimizer, lr=1e-2)
    losses = trained(update, 3)
    save_checkpoint(tmp_path / "state.pt", {"both": both.state_dict(), "update": update.state_dict()})
    losses += trained(update, 3, first=3)

    model, guide, again = programs(seed=9)
    update = make_update(model, guide, engine=engine, optimizer=optimizer, lr=1e-2)
    state = load_checkpoint(tmp_path / "state.pt")
    again.load_state_dict(state["both"])
    update.load_state_dict(state["update"])
    assert trained(update, 3, first=3) == losses[3:]
    assert all(torch.equal(p, again.get_parameter(name)) for name, p in both.named_parameters())

    # Without the optimiser's memory it would have gone on otherwise.
    again.load_state_dict(state["both"])
    trained(make_update(model, guide, engine=engine, optimizer=optimizer, lr=1e-2), 3, first=3)
    assert not any(torch.equal(p, again.get_parameter(name)) for name, p in both.named_parameters())


@pytest.mark.parametrize("engine", ENGINES)
def test_set_lr_sets_the_length_of_the_next_step(engine, monkeypatch):
    monkeypatch.setattr(staged, "compile_graph", lambda graph, inputs: graph)
    model, guide, both = programs()
    update = make_update(model, guide, engine=engine, lr=1e-3)
    update.set_lr(1e-2)  # before the optimiser has met a parameter
    start = values(both)
    trained(update, 1)
    for name, p in both.named_parameters():
        assert (p - start[name]).abs().max().item() == pytest.approx(1e-2, rel=1e-2), name
    update.set_lr(0.0)  # and after
    start = values(both)
    trained(update, 1)
    assert all(torch.equal(p, start[name]) for name, p in both.named_parameters())
    update.set_lr(1e-4)
    trained(update, 1)
    for name, p in both.named_parameters():
        assert 1e-6 < (p - start[name]).abs().max() < 5e-4, name
