"""Checkpoints: what is written comes back; what is broken, foreign or hostile is named and nothing of it runs."""

import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from vampyro.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, weight_faults

STATE = {
    "epoch": 3,
    "score": -85.5,
    "name": "vamp:5",
    "nothing": None,
    "flags": [True, False],
    "nested": {"weights": torch.arange(6.0).reshape(2, 3), "step": {0: torch.tensor(7)}},
    "wide": torch.tensor([1e-300, 2.0], dtype=torch.float64),
}


@pytest.fixture
def path(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", STATE)
    return tmp_path / "checkpoint.pt"


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def test_tensors_and_plain_values_come_back(path):
    assert same(load_checkpoint(path), STATE)
    assert not same(load_checkpoint(path), STATE | {"epoch": 4})
    assert os.listdir(path.parent) == [path.name]


class Hostile:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("plain", [False, True])
def test_a_file_with_code_is_refused_and_nothing_runs(plain, tmp_path):
    path, witness = tmp_path / "checkpoint.pt", tmp_path / "ran"
    state = {"epoch": 1, "update": Hostile(witness)}
    path.write_bytes(pickle.dumps(state, protocol=2)) if plain else torch.save(state, path)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        load_checkpoint(path)
    assert not witness.exists()
    pickle.loads(path.read_bytes()) if plain else torch.load(path, weights_only=False)
    assert witness.exists()  # it would have


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=re.escape(f"no checkpoint at {tmp_path / 'absent.pt'}")):
        load_checkpoint(tmp_path / "absent.pt")


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_named(fraction, path):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04",
        b"\x00" * 100,
        b"{}\n",
        b"hello world",  # to a pickle reader, opcodes that look up what was never stored
        b"\x80\x02.",  # a pickle that ends with an empty stack
        b"\x80\x02X\x01\x00\x00\x00\xff.",  # one whose text is not UTF-8
        b"\x80\x02Iten\n.",  # one whose number is none
    ],
)
def test_a_file_of_something_else_is_named(content, path):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        load_checkpoint(path)


def test_a_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        load_checkpoint(tmp_path)


def test_weights_of_the_same_architecture_have_no_fault():
    assert weight_faults(nn.Linear(3, 2).state_dict(), nn.Linear(3, 2).state_dict()) == []


@pytest.mark.parametrize(
    ("weights", "faults"),
    [
        ({"weight": torch.zeros(2, 3)}, ["bias is missing"]),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "x": torch.zeros(1)}, ["x is unknown here"]),
        ({"weight": torch.zeros(2, 5), "bias": torch.zeros(2)}, ["weight is (2, 5), expected (2, 3)"]),
        ({"w": torch.zeros(1)}, ["weight is missing", "bias is missing", "w is unknown here"]),
        ({"weight": [1.0], "bias": torch.zeros(2)}, ["weight is of type list, expected a tensor"]),
        (["weight"], ["the weights are of type list, expected a dict of tensors"]),
    ],
)
def test_weights_of_another_architecture_are_named(weights, faults):
    assert weight_faults(nn.Linear(3, 2).state_dict(), weights) == faults


def test_an_interrupted_write_leaves_the_old_file(path, monkeypatch):
    write = Path.write_bytes

    def interrupted(target, contents):
        write(target, contents[: len(contents) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_bytes", interrupted)
        save_checkpoint(path, STATE | {"epoch": 4})
    assert same(load_checkpoint(path), STATE) and os.listdir(path.parent) == [path.name]
    save_checkpoint(path, STATE | {"epoch": 4})
    assert load_checkpoint(path)["epoch"] == 4
    assert os.listdir(path.parent) == [path.name]
