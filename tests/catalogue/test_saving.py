"""`save` and `load`: a pair for programs from `assemble`, with `into` for those that were built by hand."""

import json

import pytest
import torch
from torch import nn
from vampyro.guides import Guide
from vampyro.models import VAE
from vampyro.priors import VampPrior

from tests.helpers import as_trained
from vampyro import nets
from vampyro.catalogue.assemble import assemble
from vampyro.catalogue.saving import load, save
from vampyro.training.checkpoint import CheckpointError

SHAPE = (1, 4, 4)
PROGRAMS = [
    {"prior": "vamp:5:weighted", "flow": "planar:2"},
    {"prior": "vamp:5:fixed", "images": torch.rand(9, *SHAPE)},
    {"model": "two-level", "prior": "mog:3", "flow": "planar:2,none", "latent": (2, 3)},
    {"posterior": "vq:4", "prior": "autoregressive", "latent": 8},
    {"condition": "label", "classes": 3, "likelihood": "normal:learned"},
]


def by_hand(latent=2):
    guide = Guide(nets.MLP(SHAPE, (8,)), nets.NormalHead(8, latent))
    prior = VampPrior(guide.q, SHAPE, components=3)
    return VAE(prior, nn.Sequential(nets.MLP((latent,), (8,)), nets.BernoulliHead(8, SHAPE))), guide


def state(programs):
    return nn.ModuleList(programs).state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("parts", PROGRAMS, ids=lambda parts: parts.get("prior", "condition"))
def test_what_is_saved_is_loaded(parts, tmp_path):
    programs = assemble(**{"hidden": (8,), "latent": 2, "shape": SHAPE} | parts)
    as_trained(nn.ModuleList(programs))
    save(tmp_path / "a", *programs)
    again = load(tmp_path / "a")
    assert same(state(programs), state(again)) and not again[0].training and not again[1].training
    save(tmp_path / "b", *again)  # what was loaded can be saved
    assert same(state(programs), state(load(tmp_path / "b")))


def test_a_vamp_prior_borrows_the_loaded_guide(tmp_path):
    save(tmp_path, *assemble(prior="vamp:5", hidden=(8,), latent=2, shape=SHAPE))
    model, guide = load(tmp_path)
    assert model.prior.q == guide.q


def test_programs_built_by_hand_load_into_others(tmp_path):
    programs = by_hand()
    save(tmp_path, *programs)
    with pytest.raises(CheckpointError, match=r"built by hand: .* load\(folder, into=\(model, guide\)\)"):
        load(tmp_path)
    again = load(tmp_path, into=by_hand())
    assert same(state(programs), state(again))


def test_weights_that_do_not_fit_are_named(tmp_path):
    save(tmp_path, *by_hand())
    with pytest.raises(CheckpointError, match=r"does not fit these programs: .* is \(4, 8\), expected \(6, 8\)"):
        load(tmp_path, into=by_hand(latent=3))
    model, guide = by_hand()
    model.extra = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="0.extra.weight is missing"):
        load(tmp_path, into=(model, guide))
    guide.more = nn.Linear(1, 1)
    save(tmp_path / "more", *by_hand()[:1], guide)
    with pytest.raises(CheckpointError, match="1.more.weight is unknown here"):
        load(tmp_path / "more", into=by_hand())


def test_a_folder_of_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(CheckpointError, match="holds a training run"):
        save(tmp_path, *by_hand())


def test_a_folder_without_programs_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no config.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"prior": "vamp"}))
    with pytest.raises(CheckpointError, match="it lacks 'model'"):
        load(tmp_path)


def test_a_checkpoint_is_no_pickle_of_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    save(tmp_path, *by_hand())
    torch.save({"weights": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path, into=by_hand())
