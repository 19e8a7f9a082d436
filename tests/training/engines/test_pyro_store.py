"""Programs whose parameters are in Pyro's store: functions under engine svi, `register` modules, saved and loaded."""

import copy
import inspect
import subprocess
import sys

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import nn

from tests import pyro_programs
from vampyro.catalogue.assemble import assemble
from vampyro.objectives import Trace_ELBO as OurELBO
from vampyro.training import fit, make_update, register
from vampyro.training.checkpoint import load_checkpoint, save_checkpoint

SHAPE = (1, 4, 4)


def stored():
    return {name: value.detach().clone() for name, value in pyro.get_param_store().named_parameters()}


def mean_loss(model, guide, x):
    return Trace_ELBO().differentiable_loss(model, guide, x) / len(x)


@pytest.mark.parametrize("program", ["vae", "params_only", "cvae", "local_autonormal"])
def test_engine_svi_trains_functions_as_stock_pyro_does(program):
    results = []
    for ours in (False, True):
        pyro.clear_param_store()
        torch.manual_seed(0)
        case = getattr(pyro_programs, program)()
        case.guide(case.images)  # an autoguide makes its parameters
        if ours:
            step = make_update(case.model, case.guide, engine="svi", lr=0.01)
        else:
            step = SVI(case.model, case.guide, pyro.optim.Adam({"lr": 0.01}), mean_loss).step
        torch.manual_seed(1)
        losses = [step(case.images) for _ in range(3)]
        results.append(([loss["loss"].item() for loss in losses] if ours else losses, stored()))
    (expected_losses, expected), (losses, values) = results
    assert losses == pytest.approx(expected_losses, rel=1e-6)
    assert (
        values.keys() >= expected.keys() and len(expected) > 1
    )  # a module is also there under the name that register gives
    for name, value in expected.items():
        torch.testing.assert_close(values[name], value, msg=name)


def test_what_functions_train_goes_on_from_a_file(tmp_path):
    def start(seed):
        pyro.clear_param_store()
        torch.manual_seed(seed)
        case = pyro_programs.params_only()
        return make_update(case.model, case.guide, engine="svi", lr=0.05)

    def steps(update, first, count):
        losses = []
        for step in range(first, first + count):
            torch.manual_seed(step)
            x = pyro_programs.binary()
            losses.append(update(x)["loss"].item())
        return losses

    update = start(0)
    steps(update, 0, 3)
    pyro.get_param_store().save(tmp_path / "store")
    save_checkpoint(tmp_path / "memory", update.state_dict())
    expected = steps(update, 3, 3)
    results = []
    for memory in (True, False):
        update = start(1)
        pyro.get_param_store().load(tmp_path / "store")
        if memory:
            update.load_state_dict(load_checkpoint(tmp_path / "memory"))
        results.append(steps(update, 3, 3))
    assert results[0] == expected and results[1] != expected


def test_two_functions_are_not_trained_by_an_engine_for_modules():
    case = pyro_programs.vae()
    with pytest.raises(TypeError, match=r"model is a method, .*make_update\(model, guide, engine='svi'\)"):
        make_update(case.model, case.guide)
    with pytest.raises(TypeError, match="guide is a int"):
        make_update(case.model, 3, engine="svi")
    module = nn.Module()
    module.forward = case.guide
    with pytest.raises(ValueError, match="encoder.*engine='svi'"):
        make_update(case.model, module)(case.images)


@pytest.mark.parametrize("engine", ["eager", "svi", "compiled"])
def test_parameters_that_an_autoguide_makes_in_its_first_call_are_trained(engine):
    case = pyro_programs.local_autonormal()
    update = make_update(case.model, case.guide, engine=engine, lr=0.1)
    losses = [update(case.images)["loss"].item() for _ in range(40)]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert all((site != 0).all() for site in case.guide.locs.parameters())
    memory = update.state_dict()
    assert len(memory) == 4 and all(tensors["exp_avg"].any() for tensors in memory.values())


def test_stock_pyro_does_not_train_module_local_parameters():
    with pyro.settings.context(module_local_params=True):
        case = pyro_programs.pyro_modules()
        with pytest.raises(ValueError, match="module_local_params=True: choose engine='eager'"):
            make_update(case.model, case.guide, engine="svi")(case.images)


class Batches:
    device = torch.device("cpu")

    def __init__(self, *sizes):
        self.sizes = sizes

    def batches(self, size):
        return [torch.full((count, 1), float(count)) for count in self.sizes]


@pytest.mark.parametrize("kind", [float, lambda v: torch.tensor(v), lambda v: {"loss": v}, lambda v: torch.tensor([v])])
def test_an_update_may_return_a_number(kind):
    [metrics] = fit(lambda x: kind(x.mean().item()), Batches(3, 1), epochs=1)
    assert metrics["loss"] == pytest.approx((3 * 3 + 1 * 1) / 4)


@pytest.mark.parametrize("value", [None, "x", torch.zeros(3), {"loss": [1.0]}])
def test_an_update_that_returns_no_number_is_an_error(value):
    with pytest.raises(TypeError, match="update returned .* for 'loss', expected a number"):
        list(fit(lambda x: value, Batches(3), epochs=1))


def test_fit_trains_the_programs_of_lesson_1():
    case = pyro_programs.vae()
    svi = SVI(case.model, case.guide, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO())
    data = Batches()
    data.batches = lambda size: [case.images]
    losses = [m["loss"] for m in fit(lambda x: svi.step(x) / len(x), data, epochs=60)]
    assert sum(losses[-10:]) < sum(losses[:10])


def pair(seed=0):
    torch.manual_seed(seed)
    return assemble(hidden=(8,), latent=2, shape=SHAPE)


def trainer(model, guide):
    return SVI(register(model), register(guide), pyro.optim.Adam({"lr": 0.01}), OurELBO())


IN_A_NEW_PROCESS = """
import sys, pyro, torch
from pyro.infer import SVI, Trace_ELBO
from vampyro.catalogue.assemble import assemble
from vampyro.training import register
torch.manual_seed(9)
other = assemble(model="two-level", hidden=(8,), latent=2, shape=(1, 4, 4))[0]
model, guide = assemble(hidden=(8,), latent=2, shape=(1, 4, 4))
register(other)
if sys.argv[2] == "before":
    pyro.get_param_store().load(sys.argv[1])
svi = SVI(register(model), register(guide), pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
if sys.argv[2] == "after":
    pyro.get_param_store().load(sys.argv[1])
x = torch.ones(5, 1, 4, 4)
for program in (guide, model):  # the order in which programs first run has no part in it
    with pyro.poutine.block():
        register(program)(x)
torch.save([p.detach().clone() for q in (model, guide) for p in q.parameters()], sys.argv[1] + ".taken")
svi.step(x)
torch.save([p.detach().clone() for q in (model, guide) for p in q.parameters()], sys.argv[1] + ".trained")
torch.save(sorted(pyro.get_param_store().keys()), sys.argv[1] + ".names")
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_loaded_values_are_taken_and_trained_in_a_new_process(when, tmp_path):
    model, guide = pair()
    svi, x = trainer(model, guide), torch.ones(5, *SHAPE)
    svi.step(x)
    pyro.get_param_store().save(tmp_path / "store")
    names = sorted(pyro.get_param_store().keys())
    assert names[0].startswith("Guide$$$") and names[-1].startswith("VAE$$$")
    subprocess.run([sys.executable, "-c", IN_A_NEW_PROCESS, str(tmp_path / "store"), when], check=True)
    taken, trained, theirs = (torch.load(tmp_path / f"store.{kind}") for kind in ("taken", "trained", "names"))
    assert theirs == names
    for parameter, value, later in zip([*model.parameters(), *guide.parameters()], taken, trained, strict=True):
        assert torch.equal(parameter, value)
        assert not torch.equal(value, later)


def test_values_of_an_earlier_program_of_that_name_are_not_taken():
    x = torch.ones(5, *SHAPE)
    first = pair(1)
    trainer(*first).step(x)
    names = {name.split("$$$")[0] for name in pyro.get_param_store().keys()}
    trained = copy.deepcopy(nn.ModuleList(first).state_dict())
    second = pair(2)
    start = copy.deepcopy(nn.ModuleList(second).state_dict())
    svi = trainer(*second)
    register(second[0])(x)
    assert all(torch.equal(value, start[name]) for name, value in nn.ModuleList(second).state_dict().items())
    svi.step(x)
    assert all(torch.equal(value, trained[name]) for name, value in nn.ModuleList(first).state_dict().items())
    assert any(not torch.equal(value, start[name]) for name, value in nn.ModuleList(second).state_dict().items())
    assert {"VAE", "Guide"} <= names


def test_a_name_is_the_callers_and_no_other_programs():
    (model, _), (other, _) = pair(1), pair(2)
    register(model, "mine")(torch.ones(5, *SHAPE))
    register(model, "mine")(torch.ones(5, *SHAPE))
    assert {name.split("$$$")[0] for name in pyro.get_param_store().keys()} == {"mine"}
    with pytest.raises(ValueError, match="'mine' is used by another program"):
        register(other, "mine")
    with pytest.raises(TypeError, match="program is a function, expected an nn.Module"):
        inspect.unwrap(register)(lambda x: x)
    pyro.clear_param_store()
    name, _ = next(iter(other.named_parameters()))
    pyro.param(f"other$$${name}", torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match=r"of shape \(1, 2, 3\), expected"):
        register(other, "other")(torch.ones(5, *SHAPE))
