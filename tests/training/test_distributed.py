"""Several processes train one program: bit-equal parameters, noise of their own, one folder."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vampyro.cli.train import kept
from vampyro.likelihood import score
from vampyro.runs.device import join_processes
from vampyro.training.distributed import ProcessError, Processes, Shard

ROOT = Path(__file__).parents[2]
TRAIN = """
import sys, torch
from vampyro.catalogue.assemble import assemble
from vampyro.data import ImageSet
from vampyro.training import fit, make_update
from vampyro.training.distributed import Processes, Shard

grey = torch.randint(256, (7, 1, 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
images = ImageSet("tiny", train=grey, valid=grey, test=grey).with_binarisation(sys.argv[2])
processes = Processes.join("cpu")
torch.manual_seed(0)
model, guide = assemble(prior="vamp:2", flow="planar:2", hidden=(6,), latent=2, shape=(1, 2, 3))
both = torch.nn.ModuleList([model, guide]).double()
torch.set_default_dtype(torch.float64)
if sys.argv[2] == "threshold":  # no noise at all: z is its mean
    torch.distributions.Normal.rsample = lambda self, shape=(): self.loc.expand(self._extended_shape(shape))
seen = []
step = make_update(model, guide, lr=1e-2, reduce=processes.reduce if processes.size > 1 else None)
def update(x):
    seen.append(x.clone())
    return step(x.double())
data = Shard(images, processes) if processes.size > 1 else images
metrics = list(fit(update, data, epochs=3, batch_size=3))
state = {"parameters": both.state_dict(), "seen": seen, "loss": [line["loss"] for line in metrics]}
torch.save(state, f"{sys.argv[1]}/{processes.rank}.pt")
"""


def torchrun(count, *words, cwd=ROOT):
    command = ["-m", "torch.distributed.run", "--nproc-per-node", count, "--master-port", "0", "--standalone", *words]
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )


def alone(*command):
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def trained(count, folder, binarize):
    folder.mkdir()
    script = folder / "train.py"
    script.write_text(TRAIN)
    done = torchrun(count, script, folder, binarize) if count > 1 else alone(script, folder, binarize)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def test_three_processes_have_one_state_and_noise_of_their_own(tmp_path):
    """Batches of 3, 3 and 1 images for three processes: of the last, two get none."""
    ranks = trained(3, tmp_path / "three", "dynamic")
    first = ranks[0]
    for other in ranks[1:]:
        assert other["parameters"].keys() == first["parameters"].keys()
        assert all(torch.equal(tensor, first["parameters"][name]) for name, tensor in other["parameters"].items())
        assert not torch.equal(other["seen"][0], first["seen"][0])
    assert [[len(x) for x in rank["seen"][:3]] for rank in ranks] == [[1, 1, 1], [1, 1, 0], [1, 1, 0]]
    seen = [torch.cat([x for rank in ranks for x in rank["seen"][3 * epoch : 3 * epoch + 3]]) for epoch in range(3)]
    assert [len(images) for images in seen] == [7, 7, 7]


def test_two_processes_compute_what_one_does(tmp_path):
    """Without noise the whole training is the same but for the order of a sum."""
    (one,), two = trained(1, tmp_path / "one", "threshold"), trained(2, tmp_path / "two", "threshold")
    for result in two:
        for name, tensor in one["parameters"].items():
            torch.testing.assert_close(result["parameters"][name], tensor, rtol=0, atol=1e-7, msg=name)
    assert two[0]["loss"] == pytest.approx(one["loss"], rel=1e-7)


def flags(dataset, out):
    small = (
        "--hidden 16 --latent 3 --batch-size 32 --samples 400 --device cpu --prior vamp:7 --flow planar:2 --epochs 3"
    )
    return ["--dataset", dataset, *small.split(), "--out", out]


def test_a_run_of_two_processes_is_one_run(dataset, tmp_path):
    done = torchrun(2, ROOT / "run.py", *flags(dataset, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch    3") == 1 and done.stdout.count("test log-likelihood") == 1
    test = json.loads((tmp_path / "run" / "results.json").read_text())["test"]
    scores = np.load(tmp_path / "run" / "scores.npz")
    assert test["images"] == 25 and sorted(scores["index"]) == list(range(25))
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3

    from vampyro import data
    from vampyro.catalogue.saving import load

    again = score(*load(tmp_path / "run"), data.load(dataset).images("test"), 400, seed=5)
    assert np.median(np.abs(scores["log_likelihood"] - again.log_likelihood.numpy())) < 0.2
    assert test["log_likelihood"] == pytest.approx(again.log_likelihood.mean().item(), abs=0.1)

    done = torchrun(2, ROOT / "run.py", "score", tmp_path / "run", "--measures", "likelihood,elbo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test log-likelihood") == done.stdout.count("Active units") == 1
    measured = json.loads((tmp_path / "run" / "results.json").read_text())["measures"]["own"]["likelihood"]
    assert {name: measured[name] for name in test if name != "seconds"} == {
        name: value for name, value in test.items() if name != "seconds"
    }


def test_a_lost_process_ends_the_run_and_its_checkpoint_goes_on(dataset, tmp_path):
    script = tmp_path / "dies.py"
    script.write_text(
        "import os, sys, run\n"
        "from vampyro.runs.folder import Reader\n"
        "saves = []\n"
        "def save(self, *state):\n"
        "    saves.append(1)\n"
        "    if len(saves) == 2: os._exit(9)\n"
        "Reader.save = save\n"
        "sys.exit(run.main(sys.argv[1:]))\n"
    )
    done = torchrun(2, script, *flags(dataset, tmp_path / "run"))
    assert done.returncode != 0
    assert f"resume with: torchrun --nproc-per-node 2 run.py --resume {tmp_path / 'run'}" in done.stderr
    assert not (tmp_path / "run" / "results.json").exists()
    epochs = len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert epochs in (1, 2)
    done = torchrun(2, ROOT / "run.py", "--resume", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "results.json").exists() and done.stdout.count("epoch    3") == 1


def test_an_engine_for_one_process_is_rejected(dataset, tmp_path):
    done = torchrun(2, ROOT / "run.py", *flags(dataset, tmp_path / "run"), "--engine", "svi")
    assert done.returncode != 0 and "--engine svi" in done.stderr and "--engine auto" in done.stderr
    assert not (tmp_path / "run").exists()


def test_more_processes_than_test_images(dataset, tmp_path):
    done = torchrun(2, ROOT / "run.py", *flags(dataset, tmp_path / "run"), "--test-images", 1)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["test"]["images"] == 1


def test_processes_that_cannot_meet_say_so(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ProcessError, match="torchrun"):
        Processes.join("cpu")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Processes.join("cpu").size == 1


def test_a_signal_ends_a_process_that_waits_for_the_others_to_start(monkeypatch):
    """The wait is in C++ and never comes back to Python, where a handler would run."""
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.getsignal(number) for number in numbers]
    monkeypatch.setattr(Processes, "join", lambda device: [signal.getsignal(number) for number in numbers])
    assert join_processes("cpu") == [signal.SIG_DFL, signal.SIG_DFL]
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize(
    ("size", "local", "command"),
    [
        (1, "1", "python run.py"),
        (4, "4", "torchrun --nproc-per-node 4 run.py"),
        (4, "2", "torchrun --nnodes 2 --nproc-per-node 2 run.py"),
    ],
)
def test_what_goes_on_is_the_command_with_as_many_processes(size, local, command, monkeypatch, tmp_path):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    folder = tmp_path / "a b"
    run = SimpleNamespace(processes=Processes(0, size), epoch=3, folder=SimpleNamespace(path=folder))
    assert kept(run) == f"{folder} was removed or moved while this run wrote to it: put it back, or train a new run"
    folder.mkdir(), (folder / "config.json").touch()
    assert kept(run) == f"{folder} contains epoch 3; resume with: {command} --resume '{folder}'"


def test_alone_nothing_is_shared_or_gathered():
    alone = Processes.join("cpu")
    assert (alone.rank, alone.size, alone.leads) == (0, 1, True)
    assert alone.broadcast("x") == "x" and alone.gather("x") == ["x"]
    with alone.leader_first():
        pass


def test_a_shard_takes_its_part_of_every_batch():
    class Ten:
        device = torch.device("cpu")

        def order(self):
            return torch.randperm(10)

        def batch(self, indices):
            return indices

    parts = []
    for rank in range(3):
        torch.manual_seed(1)
        parts.append(list(Shard(Ten(), Processes(rank, 3)).batches(4)))
    torch.manual_seed(1)
    order = torch.randperm(10)
    for number, whole in enumerate(order.split(4)):
        assert sorted(torch.cat([part[number] for part in parts]).tolist()) == sorted(whole.tolist())
