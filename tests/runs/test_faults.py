"""Runs that survive: each fault is brought about, and what is kept is the uninterrupted run's (docs/faults.md)."""

import errno
import http.server
import io
import json
import multiprocessing
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import forkserver
from pathlib import Path

import filelock
import pytest
import torch

from tests.cli.test_train import assert_same, call
from vampyro.runs import training_run as training
from vampyro.runs.folder import Folder
from vampyro.training.checkpoint import load_checkpoint

SMALL = ["--hidden", "8", "--latent", "2", "--batch-size", "32", "--samples", "5", "--device", "cpu"]
SMALL += ["--engine", "eager", "--prior", "vamp:3", "--optimizer", "adam-normgrad", "--seed", "3"]
ROOT = Path(__file__).parents[2]
processes = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module", autouse=True)
def server():
    """Children of a server that has imported torch once are processes of their own, in a twentieth of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
        processes.set_forkserver_preload(["torch._dynamo", "vampyro.cli.train", "vampyro.runs.training_run"])
        forkserver.ensure_running()


def command(argv, log, fault=None, *arguments):
    """What a child process does: `python run.py ARGV`, without figures, its words in a file; first `fault`."""
    words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(words, 1), os.dup2(words, 2)
    assert Path(training.__file__).is_relative_to(ROOT)
    torch.set_num_threads(1)
    training.draw = lambda *_: {}
    if fault is not None:
        fault(*arguments)
    from vampyro import cli as run

    os.write(words, b"begun\n")
    sys.exit(run.main([str(word) for word in argv]))


class Child:
    """A command in a process of its own."""

    def __init__(self, folder, argv, *fault):
        self.log = folder.with_name(f"{folder.name}-{time.monotonic_ns()}.log")
        self.process = processes.Process(target=command, args=(argv, self.log, *fault))
        self.process.start()

    def send(self, number):
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def send_at_some_moment(self, number, random):
        """After none to three of its epochs and a little more, unless it ends before."""
        epochs, more = random.randrange(4), random.uniform(0, 0.05)
        until(lambda: not self.process.is_alive() or "begun" in (w := self.words()) and w.count("\nepoch ") >= epochs)
        self.process.join(more)
        self.send(number)

    def words(self):
        return self.log.read_text() if self.log.exists() else ""

    def ended(self, seconds=60):
        """(exit status, words); a traceback is no end."""
        self.process.join(seconds)
        assert self.process.exitcode is not None
        words = self.words()
        assert "Traceback" not in words, words
        return self.process.exitcode, words


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def begun(dataset, folder, epochs):
    return ["--dataset", dataset, *SMALL, "--epochs", epochs, "--out", folder]


def on(dataset, folder, epochs):
    """What a user types next: the same again where there is no run yet, or else --resume."""
    return ["--resume", folder] if (folder / "config.json").exists() else begun(dataset, folder, epochs)


def kept(folder):
    """Everything that a run computed, without its times."""
    state = load_checkpoint(folder / "checkpoint.pt")
    results = json.loads((folder / "results.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timeless = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    assert [line | {"seconds": 0} for line in state.pop("metrics")] == [line | {"seconds": 0} for line in lines]
    return state, timeless, {key: value for key, value in results["test"].items() if key != "seconds"}


def assert_clean(folder):
    """No half file, no lock; and what is there of a checkpoint is whole."""
    left = {path.name for path in folder.iterdir()}
    assert left <= {"config.json", "checkpoint.pt", "metrics.jsonl", "results.json", "scores.npz"}, left
    if "checkpoint.pt" in left:
        load_checkpoint(folder / "checkpoint.pt")


EPOCHS = 12


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """{epochs: what an uninterrupted run keeps}."""
    states = {}
    for epochs in (2, EPOCHS):
        folder = tmp_path_factory.mktemp("whole") / "run"
        assert Child(folder, begun(dataset, folder, epochs)).ended()[0] == 0
        states[epochs] = kept(folder)
        assert_clean(folder)
    return states


# --- kill -9


def test_kill_at_random_moments(dataset, whole, tmp_path):
    folder, moments, kills = tmp_path / "run", random.Random(0), 0
    for _ in range(8):
        child = Child(folder, on(dataset, folder, EPOCHS))
        child.send_at_some_moment(signal.SIGKILL, moments)
        status = child.ended()[0]
        assert status in (-signal.SIGKILL, 0)
        kills += status != 0
        if (folder / "checkpoint.pt").exists():
            load_checkpoint(folder / "checkpoint.pt")
    assert kills
    assert Child(folder, on(dataset, folder, EPOCHS)).ended()[0] == 0
    assert_clean(folder)
    assert_same(kept(folder), whole[EPOCHS])


def die_at_rename(count, after):
    """Ends the process at its count-th rename, as kill -9 does."""
    rename, calls = os.replace, []

    def replace(*paths):
        calls.append(paths)
        if len(calls) == count and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*paths)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace


def die_in_a_checkpoint(count):
    """Ends the process when half of its count-th checkpoint is written."""
    write, calls = Path.write_bytes, []

    def write_bytes(self, contents):
        calls.append(self)
        if len(calls) == count:
            write(self, contents[: len(contents) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(self, contents)

    Path.write_bytes = write_bytes


def test_kill_before_and_after_every_rename(dataset, whole, tmp_path):
    folder, deaths = tmp_path / "run", 0
    while True:
        child = Child(folder, on(dataset, folder, 2), die_at_rename, deaths // 2 + 1, deaths % 2)
        if (status := child.ended()[0]) == 0:
            break
        assert status == -signal.SIGKILL
        deaths += 1
    assert deaths >= 6
    assert_clean(folder)
    assert_same(kept(folder), whole[2])


@pytest.mark.parametrize("epoch", [1, 2])
def test_kill_in_the_middle_of_a_checkpoint(epoch, dataset, whole, tmp_path):
    folder = tmp_path / "run"
    assert Child(folder, begun(dataset, folder, 2), die_in_a_checkpoint, epoch).ended()[0] == -signal.SIGKILL
    assert list(folder.glob("checkpoint.pt.*.part")) and (folder / ".lock").exists()
    assert (folder / "checkpoint.pt").exists() == (epoch == 2)
    assert Child(folder, on(dataset, folder, 2)).ended()[0] == 0
    assert_clean(folder)
    assert_same(kept(folder), whole[2])


# --- a full disk


class Disk(io.FileIO):
    """A file on a disk that is full after `left` writes, whoever made them."""

    left = 0

    def write(self, contents):
        if Disk.left < 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name)
        Disk.left -= 1
        return super().write(contents)


def test_disk_full_at_every_write_in_turn(dataset, whole, tmp_path, monkeypatch):
    folder, room, opened = tmp_path / "run", 0, pathlib.Path.open
    monkeypatch.setattr(training, "draw", lambda *_: {})

    def small_disk(self, mode="r", *args, **kwargs):
        return io.BufferedWriter(Disk(self, mode)) if "w" in mode else opened(self, mode, *args, **kwargs)

    while True:
        Disk.left = room
        with monkeypatch.context() as patch:
            patch.setattr(pathlib.Path, "open", small_disk)
            status = call(*on(dataset, folder, 2))
        if status is None:
            break
        assert status.startswith("error: ") and "No space left on device" in status and "\n" not in status
        assert "--resume" in status or "cannot write to" in status
        assert_clean(folder)
        room += 1
    assert room >= 8
    assert_clean(folder)
    assert_same(kept(folder), whole[2])


def test_disk_full_at_every_write_of_a_measure(dataset, tmp_path, monkeypatch):
    folder, room, opened = tmp_path / "run", 0, pathlib.Path.open
    monkeypatch.setattr(training, "draw", lambda *_: {})
    monkeypatch.setattr(Folder, "save_figure", lambda *_: None)
    assert call(*begun(dataset, folder, 1)) is None
    before, whole = json.loads((folder / "results.json").read_text()), tmp_path / "whole"
    score = ["--images", 3, "--samples", 5, "--device", "cpu"]
    shutil.copytree(folder, whole)
    assert call("score", whole, *score) is None

    def small_disk(self, mode="r", *args, **kwargs):
        return io.BufferedWriter(Disk(self, mode)) if "w" in mode else opened(self, mode, *args, **kwargs)

    while True:
        Disk.left = room
        with monkeypatch.context() as patch:
            patch.setattr(pathlib.Path, "open", small_disk)
            status = call("score", folder, *score)
        if status is None:
            break
        assert status.startswith("error: ") and "No space left on device" in status and "\n" not in status
        assert "finished measures are kept; run the same command again to continue" in status
        assert (
            not list(folder.rglob("*.part"))
            and json.loads((folder / "results.json").read_text()).items() >= before.items()
        )
        room += 1
    assert room >= 4
    measured = [json.loads((path / "results.json").read_text())["measures"] for path in (folder, whole)]
    assert_same(*measured)


def test_the_systems_own_limit_on_a_files_size(dataset, tmp_path):
    """As a quota: the system cuts the write itself, in the middle of a checkpoint."""
    folder = tmp_path / "run"
    argv = [sys.executable, ROOT / "run.py", *begun(dataset, folder, 2)]
    done = subprocess.run(
        list(map(str, argv)),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "File too large" in done.stderr and f"run.py --resume {folder}" in done.stderr
    assert "Traceback" not in done.stderr
    assert_clean(folder)
    assert (folder / "config.json").exists() and not (folder / "checkpoint.pt").exists()
    assert Child(folder, on(dataset, folder, 2)).ended()[0] == 0
    assert_clean(folder)


# --- a request to stop


@pytest.mark.parametrize("number, expected", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_stop_at_random_moments(number, expected, dataset, whole, tmp_path):
    folder, moments, stops = tmp_path / "run", random.Random(int(number)), 0
    for _ in range(5):
        child = Child(folder, on(dataset, folder, EPOCHS))
        child.send_at_some_moment(number, moments)
        status, words = child.ended()
        assert status in (expected, 0)
        if status == expected:
            stops += 1
            if "epoch" in words:
                assert f"run.py --resume {folder}" in words
                assert_clean(folder)
    assert stops
    assert Child(folder, on(dataset, folder, EPOCHS)).ended()[0] == 0
    assert_same(kept(folder), whole[EPOCHS])


def test_a_scheduler_may_repeat_itself_and_the_last_whole_epoch_is_named(dataset, tmp_path):
    folder = tmp_path / "run"
    child = Child(folder, begun(dataset, folder, 10**6))
    until(lambda: (folder / "metrics.jsonl").exists() and len((folder / "metrics.jsonl").read_bytes().splitlines()) > 1)
    child.send(signal.SIGTERM), child.send(signal.SIGTERM)
    status, words = child.ended()
    epoch = load_checkpoint(folder / "checkpoint.pt")["epoch"]
    assert status == 143
    assert any(f"{folder} contains epoch {n}; resume with: python run.py --resume" in words for n in (epoch, epoch - 1))
    assert_clean(folder)


# --- two runs in one folder


def slow_saves():
    from vampyro.runs.folder import Folder

    save = Folder.save

    def slow(self, *state):
        time.sleep(0.4)
        save(self, *state)

    Folder.save = slow


def test_of_many_runs_in_one_folder_at_once_one_trains(dataset, whole, tmp_path):
    folder = tmp_path / "run"
    ends = [child.ended() for child in [Child(folder, begun(dataset, folder, 2), slow_saves) for _ in range(4)]]
    assert sorted(status for status, _ in ends) == [0, 1, 1, 1]
    for status, words in ends:
        assert status == 0 or "trains there" in words or "holds a run already" in words
    assert_clean(folder)
    assert_same(kept(folder), whole[2])


def test_of_two_resumes_at_once_one_trains_and_the_other_says_who(dataset, whole, tmp_path):
    folder = tmp_path / "run"
    first = Child(folder, begun(dataset, folder, 2), slow_saves)
    until((folder / "config.json").exists)
    status, words = Child(folder, ["--resume", folder]).ended()
    # Older versions of filelock empty a file before they try to lock it, and with it the number of the process.
    who = f"process {first.process.pid} on " if filelock.__version__ > "4" else ""
    assert status == 1 and f"{folder} is in use, {who}" in words
    assert first.ended()[0] == 0
    assert_clean(folder)
    assert_same(kept(folder), whole[2])


def test_a_dead_process_bars_nobody(dataset, whole, tmp_path):
    folder = tmp_path / "run"
    child = Child(folder, begun(dataset, folder, 2), slow_saves)
    until((folder / "config.json").exists)
    child.send(signal.SIGKILL)
    child.ended()
    assert (folder / ".lock").exists()
    (folder / ".lock").write_text(f"process {os.getpid()} on this machine")  # even one whose number lives again
    assert Child(folder, ["--resume", folder]).ended()[0] == 0
    assert_clean(folder)
    assert_same(kept(folder), whole[2])


# --- an interrupted download


def test_a_download_that_breaks_off_leaves_no_run_and_the_same_command_goes_on(tmp_path, monkeypatch):
    """Over a connection that is cut in the middle of a file, then over a good one."""
    from tests.data.test_download import small_mnist
    from vampyro.data import download as cache

    class Handler(http.server.BaseHTTPRequestHandler):
        cut = True

        def do_GET(self):
            body = files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", len(body))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if self.cut else body)

        def log_message(self, *_):
            pass

    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "packed")
    monkeypatch.setattr(training, "draw", lambda *_: {})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        files = {
            f"/{n}": text for n, text in small_mnist(monkeypatch, f"http://127.0.0.1:{server.server_port}/").items()
        }
        argv = ["--dataset", "static-mnist", "--data-dir", tmp_path / "data", *SMALL, "--epochs", 1]
        status = call(*argv, "--out", tmp_path / "run")
        assert status.startswith("error: cannot download") and "by hand" in status
        assert not (tmp_path / "run").exists() and list((tmp_path / "data" / "static_mnist").iterdir()) == []
        Handler.cut = False
        assert call(*argv, "--out", tmp_path / "run") is None
        server.shutdown()
    assert len(list((tmp_path / "data" / "static_mnist").iterdir())) == 3


def test_what_a_killed_process_left_goes_and_a_users_own_files_stay(dataset, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    ours = ["checkpoint.pt.part", f"results.json.{'0a' * 16}.part"]
    theirs = ["film.part", "checkpoint.pt.old", ".hidden"]
    for name in [*ours, *theirs]:
        (folder / name).write_text("")
    assert Child(folder, begun(dataset, folder, 1)).ended()[0] == 0
    left = {path.name for path in folder.iterdir()}
    assert left >= set(theirs) and not left & {*ours, ".lock"}
