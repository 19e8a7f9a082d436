"""Runs of a sweep end with it, and the reason for a failure comes from the process that failed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_faults import until
from test_run import SMALL, call

from jobs import many
from jobs.folder import Folder
from jobs.lock import Lock, Locked
from jobs.parent import WATCHED

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def is_free(folder):
    try:
        Lock(folder).release()
    except Locked:
        return False
    return True


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is POSIX")
def test_kill_9_of_a_sweep_ends_its_runs_and_the_same_command_goes_on(dataset, tmp_path):
    out, run = tmp_path / "out", tmp_path / "out" / "beta-1_seed0"
    argv = ["sweep", "--dataset", dataset, *SMALL, "--engine", "eager", "--out", out, "--vary", "beta=1"]
    argv = [sys.executable, ROOT / "run.py", *argv, "--epochs", 10**6]
    sweep = subprocess.Popen(list(map(str, argv)), env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    until(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size > 0, 120)
    assert not is_free(run)
    sweep.kill()
    sweep.wait()
    until(lambda: is_free(run), 20)
    log = (run / "log.txt").read_text()
    assert log.rstrip().splitlines()[-1].startswith(f"stopped; {run} keeps epoch ")
    assert (run / "checkpoint.pt").exists() and not list(run.glob("*.part"))
    assert call("--resume", run, "--epochs", log.count("\nepoch ") + 2) is None


def test_a_run_that_was_started_by_hand_does_not_watch_its_input(dataset, tmp_path):
    argv = [sys.executable, ROOT / "run.py", "--dataset", dataset, *SMALL, "--epochs", 1, "--out", tmp_path / "a"]
    assert WATCHED not in os.environ
    assert subprocess.run(list(map(str, argv)), env=ENVIRONMENT, stdin=subprocess.DEVNULL).returncode == 0


LOG = """$ python run.py --resume a
epoch    1   loss 3
error: an older process failed
"""


@pytest.mark.parametrize(
    ("status", "written", "reason"),
    [
        (1, "error: its own reason\nepoch    7   an orphan's line\n", "error: its own reason"),
        (1, "Traceback\nKeyError: 3\n", "KeyError: 3"),
        (1, "", "exit status 1"),
        (-9, "epoch    2   loss 2\n", "killed by signal 9"),
        (143, "stopped\n", "stopped"),
    ],
)
def test_the_reason_is_what_the_process_that_failed_wrote(status, written, reason, tmp_path):
    log = tmp_path / "log.txt"
    log.write_text(LOG + "$ python run.py --resume a\n" + written)
    assert many._reason(status, log, len(LOG)) == reason


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="SIGHUP is POSIX")
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGHUP, 129), (signal.SIGTERM, 143)])
def test_a_closed_terminal_stops_a_run_in_good_order(number, expected, dataset, tmp_path):
    folder = tmp_path / "a"
    argv = [sys.executable, ROOT / "run.py", "--dataset", dataset, *SMALL, "--epochs", 10**6, "--out", folder]
    argv += ["--engine", "eager"]
    run = subprocess.Popen(list(map(str, argv)), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    until((folder / "metrics.jsonl").exists, 120)
    time.sleep(0.1)
    run.send_signal(number)
    _, said = run.communicate(timeout=60)
    assert run.returncode == expected and f"run.py --resume {folder}" in said
    assert not (folder / ".lock").exists()


def test_more_jobs_than_cores_can_run_are_refused(tmp_path):
    most = 8 * os.cpu_count()
    status = call("sweep", "--vary", "latent=2,3", "--jobs", most + 1, "--out", tmp_path / "out")
    assert status == f"error: --jobs {most + 1}: expected at most {most}, 8 for each core"
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_moved_while_a_run_trains_in_it_is_said(dataset, tmp_path, monkeypatch):
    save = Folder.save

    def moved(self, state, metrics):
        if len(metrics) == 2:
            self.path.rename(tmp_path / "moved")
        save(self, state, metrics)

    monkeypatch.setattr(Folder, "save", moved)
    status = call("--dataset", dataset, *SMALL, "--engine", "eager", "--epochs", 3, "--out", tmp_path / "a")
    assert status.endswith("was removed or moved while this run wrote to it: put it back, or train a new run")
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr(Folder, "save", save)
    assert call("--resume", tmp_path / "moved") is None
