"""A number that is not finite: where it began is named, by the epoch done again, and the last good epoch is kept."""

import json
import re

import pytest
import torch

from tests.cli.test_train import call
from tests.helpers import build_part
from tests.runs.test_faults import assert_clean, begun, kept
from vampyro import data
from vampyro.catalogue import specs
from vampyro.catalogue.assemble import assemble
from vampyro.objectives import IWAE, Trace_ELBO, TraceMeanField_ELBO
from vampyro.runs import training_run as begin
from vampyro.runs import training_run as training
from vampyro.training import Cooldown, diagnose, elbo_parts, make_update
from vampyro.training.checkpoint import load_checkpoint


class Leap(Cooldown):
    """A learning rate that is far too high in the third epoch, and in no other."""

    def __call__(self, epoch):
        self.set_lr(1e19 if epoch == 3 else 1e-3)


@pytest.mark.parametrize("engine", ["eager", "svi", "compiled"])
def test_nan_is_traced_to_the_site_where_it_began(engine, dataset, tmp_path, monkeypatch, capfd):
    """The first step of epoch 3 makes the weights large, so that in the second the first site that overflows is z."""
    folder = tmp_path / "run"
    monkeypatch.setattr(training, "Cooldown", Leap)
    monkeypatch.setattr(training, "draw", lambda *_: {})
    status = call(*begun(dataset, folder, 4), "--engine", engine)
    assert status.startswith("error: the value of the guide's site 'z' is not finite (") and "\n" not in status
    assert " in step 2 of epoch 3; " in status
    assert f"{folder} contains epoch 2" in status and "lower --lr" in status
    assert "epoch 3 failed: repeating it" in capfd.readouterr().err
    assert_clean(folder)
    assert json.loads((folder / "config.json").read_text())["engine"] == engine
    assert load_checkpoint(folder / "checkpoint.pt")["epoch"] == 2
    monkeypatch.setattr(training, "Cooldown", Cooldown)  # and from there a run can go on, bit for bit
    assert call("--resume", folder) is None
    assert len(kept(folder)[1]) == 4


class Faulty(torch.nn.Module):
    """A part that returns NaN from its `calls`-th call on."""

    def __init__(self, part, calls):
        super().__init__()
        self.part, self.left = part, calls

    def forward(self, *args):
        self.left -= 1
        value = self.part(*args)
        return value if self.left > 0 else torch.full_like(value, torch.nan)


def small(**parts):
    return assemble(**{"hidden": (6,), "latent": 2, "shape": (1, 6, 5), "prior": "vamp:2"} | parts)


@pytest.mark.parametrize("objective", [Trace_ELBO(), TraceMeanField_ELBO(), IWAE(3)], ids=["elbo", "analytic", "iwae"])
@pytest.mark.parametrize("latent, model", [(2, "vae"), ((3, 2), "two-level")])
def test_the_first_fault_is_named_and_not_what_follows_from_it(objective, latent, model, dataset):
    images = data.load(dataset)
    how = dict(data=images, first=1, batch_size=32, seed=0)

    def diagnosed(break_it):
        programs = small(model=model, latent=latent, prior="standard")
        break_it(*programs)
        return diagnose(make_update(*programs, objective=objective), **how)

    def decoder(model, guide):  # runs once a step
        model.decoder[0] = Faulty(model.decoder[0], 3)

    def body(model, guide):
        part = guide if hasattr(guide, "body") else guide.lower
        part.body = Faulty(part.body, 2)

    def kept(model, guide):
        with torch.no_grad():
            next(guide.parameters())[0, 0] = torch.inf

    z = "z" if model == "vae" else "z1"
    assert diagnosed(lambda *_: None) is None
    assert re.match("the log-probability of the model's site 'x' .*nan.*, in step 3 of epoch 1", diagnosed(decoder))
    assert re.match(f"the value of the guide's site '{z}' .*nan.*, in step 2 of epoch 1", diagnosed(body))
    assert re.match(r"guide\..* is not finite \(1 of .*inf\), in what was kept, before", diagnosed(kept))


def test_a_fault_in_the_gradient_in_the_loss_and_in_validation_is_named(dataset):
    images = data.load(dataset)
    how = dict(data=images, first=1, batch_size=50, seed=0)
    update = make_update(*small())
    update.parameters["0.prior.pseudo_logits"].register_hook(lambda gradient: gradient * torch.nan)
    found = diagnose(update, **how)
    assert re.match("the gradient of model.prior.pseudo_logits is not finite .*, in step 1 of epoch 1", found)

    class Broken(Trace_ELBO):
        def differentiable_loss(self, *args):
            return super().differentiable_loss(*args) * torch.inf

    found = diagnose(make_update(*small(), objective=Broken()), **how)
    assert found == "the loss is not finite (inf), in step 1 of epoch 1"

    model, guide = small()
    model.decoder[0] = Faulty(model.decoder[0], 3)  # two steps, then the validation
    evaluate = lambda: elbo_parts(model, guide, images.images("valid"))  # noqa: E731
    found = diagnose(make_update(model, guide), evaluate=evaluate, **how)
    assert re.match("the log-probability of the model's site 'x' .*, in the validation of epoch 1", found)


def test_a_guides_factor_is_the_guides_and_what_learns_after_a_step_is_no_site_of_it(dataset):
    how = dict(data=data.load(dataset), first=1, batch_size=50, seed=0)
    model, guide = small(posterior="vq:8", prior="standard", latent=8)
    model.decoder[0] = Faulty(model.decoder[0], 1)
    found = diagnose(make_update(model, guide), **how)
    assert re.match("the log-probability of the model's site 'x' .*, in step 1", found)

    model, guide = small(posterior="vq:8", prior="standard", latent=8)
    with torch.no_grad():
        guide.head.linear.weight.mul_(1e25)  # its square overflows, and it does not
    found = diagnose(make_update(model, guide), **how)
    assert re.match("the log-probability of the guide's site 'commitment' .*inf.*, in step 1", found)

    model, guide = small(posterior="vq:8", prior="standard", latent=8)
    guide.body = Faulty(guide.body, 2)  # the guide again, after the first step
    found = diagnose(make_update(model, guide), **how)
    assert re.match("the log-probability of the guide's site 'commitment' .*nan.*, in step 2", found)
    assert all("forward" not in vars(program) for program in (model, guide))


def test_an_objectives_own_parameter_is_named(dataset):
    spec = specs.parse("objective", "elbo:score")
    objective = build_part("objective", spec, (1, 6, 5))
    update = make_update(*small(posterior="bernoulli", prior="standard"), objective=objective)
    with torch.no_grad():
        next(objective.parameters()).view(-1)[0] = torch.nan
    found = diagnose(update, data=data.load(dataset), first=1, batch_size=50, seed=0)
    assert re.match(r"objective\..* is not finite \(1 of .*nan\), in what was kept, before", found)


def test_codes_that_diverge_end_in_a_diagnosis(dataset, tmp_path):
    """Whether in training or first in the validation, where codes are drawn."""
    argv = begun(dataset, tmp_path / "run", 2)
    for flag, value in (("--prior", "standard"), ("--latent", "8")):
        argv[argv.index(flag) + 1] = value
    status = call(*argv, "--posterior", "vq:8", "--lr", "1e30")
    assert re.match("error: the .* of the guide's site '.*' is not finite .*, in step 2 of epoch 1", status)
    assert "lower --lr" in status

    model, guide = small(posterior="vq:8", prior="standard", latent=8)
    images = data.load(dataset)
    guide.body = Faulty(guide.body, 5)  # two steps, each of which learns, then the validation
    evaluate = lambda: elbo_parts(model, guide, images.images("valid"))  # noqa: E731
    found = diagnose(make_update(model, guide), data=images, first=1, batch_size=50, seed=0, evaluate=evaluate)
    assert re.match("the log-probability of the guide's site 'z' .*nan.*, in the validation of epoch 1", found)


def test_what_only_one_engine_meets_is_said_and_another_error_is_no_nan(dataset, tmp_path, monkeypatch):
    """A repetition that stays finite names the engine that can go on; a mistake of a program stays its own error."""
    folder = tmp_path / "run"
    monkeypatch.setattr(training, "Cooldown", Leap)
    monkeypatch.setattr(begin, "diagnose", lambda **_: None)
    status = call(*begun(dataset, folder, 4))
    assert "is nan in epoch 3, but not with --engine eager" in status
    assert status.endswith(f"resume with: python run.py --resume {folder} --engine eager")

    def mistaken(*_):
        raise ValueError("a program's own")

    monkeypatch.setattr(training.Run, "fitting", mistaken)
    with pytest.raises(ValueError, match="a program's own"):
        call("--resume", folder)
