"""A checkpoint with any of its leaves exchanged: used where it is still one of the run, else named in one line."""

import copy
import itertools
import shutil

import pytest
import torch

from tests.cli.test_train import call, train
from vampyro.catalogue import saving
from vampyro.runs import training_run as training
from vampyro.runs.folder import Folder
from vampyro.runs.results import read_config
from vampyro.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from vampyro.training.checkpoint_state import check_state

NUMBERS = [None, "text", b"bytes", [], {}, True, 0, -1, 10**30, 10**400, 0.5, float("nan"), float("inf"), -1e300, [[]]]
RUNS = {
    "vamp": [],
    "score": ["--prior", "standard", "--flow", "none", "--posterior", "bernoulli", "--objective", "elbo:score"],
    "vq": ["--prior", "standard", "--flow", "none", "--posterior", "vq:4", "--latent", 4],
}


def strange(tensor):
    """What may stand in a tensor's place, {name: value}."""
    flat = tensor.reshape(-1)
    broken = tensor.clone()
    others = {
        "meta": tensor.to("meta"),
        "sparse": tensor.to_sparse(),
        "wide": tensor.double(),
        "short": flat[:-1],
        "longer": torch.cat([flat, flat[:1]]),
        "axis": tensor.unsqueeze(0),
        "empty": torch.zeros(0),
        "none": None,
        "text": "text",
        "number": 1.0,
        "list": tensor.tolist(),
        "same": tensor.clone(),
        "parameter": torch.nn.Parameter(tensor.clone()) if tensor.is_floating_point() else tensor.clone(),
    }
    if tensor.numel() > 1:
        others["one number for all"] = flat[:1].clone().expand(tensor.numel()).reshape(tensor.shape)
    if tensor.is_floating_point() and tensor.numel():
        broken.view(-1)[0] = float("nan")
        others["nan"] = broken
        others["infinite"] = torch.full_like(tensor, float("inf"))
        others["quantised"] = torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)
    return others


def leaves(value, path=()):
    """The paths of all leaves, and of all that holds some."""
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from leaves(child, (*path, key))


def mutated(state, path, value):
    """A copy of `state` with another value there; only what holds it is copied."""
    top = new = copy.copy(state)
    for key in path[:-1]:
        new[key] = copy.copy(new[key])
        new = new[key]
    new[path[-1]] = value
    return top


def without(state, path):
    top = new = copy.copy(state)
    for key in path[:-1]:
        new[key] = copy.copy(new[key])
        new = new[key]
    del new[path[-1]]
    return top


def mutations(state):
    """Every leaf in turn has another value; of tensors that are checked alike, the first has every other value."""
    count, seen = itertools.count(), set()
    for path in leaves(state):
        value = state
        for key in path:
            value = value[key]
        others = list((strange(value) if isinstance(value, torch.Tensor) else dict(enumerate(NUMBERS))).items())
        if isinstance(value, torch.Tensor):
            kind = (path[0], path[-1] if path[0] == "update" else None)
            others = [others[next(count) % len(others)]] if kind in seen else others
            seen.add(kind)
        for name, other in others:
            yield (*path, name), mutated(state, path, other)
        yield (*path, "missing"), without(state, path)
        if isinstance(value, dict):
            yield (*path, "one more"), mutated(state, path, value | {"extra": torch.zeros(1), 7: None})
    for name, other in enumerate(NUMBERS):
        yield (name,), other


@pytest.fixture(scope="module", params=RUNS)
def run(request, dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / request.param
    small = ["--hidden", 4, "--latent", 2, "--samples", 2, "--epochs", 2, "--engine", "eager", "--prior", "vamp:2"]
    assert train(dataset, folder, *small, *RUNS[request.param]) is None
    return folder


def test_every_leaf_of_a_real_checkpoint_exchanged(run):
    """In memory, as reading it from the disk a thousand times would take minutes."""
    state = load_checkpoint(run / "checkpoint.pt")
    config = read_config(run)
    fresh = training.Run(config)
    expected = {"parameters": fresh.update.parameters, "objective": fresh.update.program[2:].state_dict()}
    expected |= {"frame": fresh.images.input_shape}
    used = refused = 0
    for name, other in mutations(state):
        try:
            checked = check_state(other, fresh.program, "FILE", **expected)
        except CheckpointError as error:
            refused += 1
            message = str(error)
            assert message.startswith("FILE is not a valid checkpoint of this run: ") and "\n" not in message
            assert len(message) < 500
            continue
        used += 1
        fresh.program.load_state_dict(checked["program"])
        fresh.program.load_state_dict(checked["best"]["weights"])
        fresh.update.load_state_dict(copy.deepcopy(checked["update"]))
        fresh.best.load_state_dict(checked["best"])
        assert fresh.best.done in (True, False), name
        x = fresh.images.images("train")[:8]
        fresh.program.load_state_dict(state["program"])  # a step of finite weights is to be possible
        assert fresh.update(x)["loss"].isfinite(), name
    assert refused > 200 and 0 < used < refused / 5
    assert check_state(state, fresh.program, "FILE", **expected) is state


JOBS = [["--resume"], ["score"], ["score", "--prior", "aggregate"], ["sample"], ["sample", "--prior", "aggregate"]]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("best",), [1]),
        (("best", "score"), None),
        (("epoch",), 10**30),
        (("best", "weights"), "text"),
        (("metrics",), None),
    ],
)
def test_every_job_names_the_file_in_one_line(path, value, run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    save_checkpoint(folder / "checkpoint.pt", mutated(load_checkpoint(folder / "checkpoint.pt"), path, value))
    for job in JOBS:
        words = [job[0], folder, *job[1:], "--device", "cpu"]
        status = call(*words)
        assert status.startswith(f"error: {folder / 'checkpoint.pt'} is not a valid checkpoint of this run: "), job
        assert "\n" not in status
    with pytest.raises(CheckpointError, match="not a valid checkpoint"):
        saving.load(folder)


@pytest.mark.parametrize("kind", ["sparse", "meta", "wide"])
def test_every_job_refuses_weights_that_are_not_dense(kind, run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    state = load_checkpoint(folder / "checkpoint.pt")
    name = next(iter(state["program"]))
    path = ("best", "weights", name)
    save_checkpoint(folder / "checkpoint.pt", mutated(state, path, strange(state["best"]["weights"][name])[kind]))
    for job in JOBS:
        status = call(job[0], folder, *job[1:], "--device", "cpu")
        assert status.startswith(f"error: {folder / 'checkpoint.pt'} is not a valid checkpoint of this run: {name} ")


def test_a_run_before_its_first_epoch_has_no_state(run, tmp_path):
    assert Folder(tmp_path).load("cpu") is None
