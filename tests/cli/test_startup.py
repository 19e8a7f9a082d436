"""The process of a command: its streams, its environment and its parent; and what a sweep says of a run's process."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.cli.test_train import SMALL, call
from tests.runs.test_faults import until
from vampyro.runs.folder import Folder, FolderError
from vampyro.runs.signals import WATCHED, watch_parent
from vampyro.sweeps import runner as many

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


# --- standard streams


@pytest.mark.skipif(os.name != "posix", reason="closes streams as a POSIX shell does")
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_are_opened(closed):
    """Without a leftover descriptor, so that the next file gets the number 3, as it does with open streams."""
    code = "from vampyro.cli.startup import open_closed_streams as f; import os, sys; f(); print(file=sys.stderr)\n"
    code += "print(); sys.stdin.read(); sys.exit(os.open(os.devnull, os.O_RDONLY))"
    line = f'"{sys.executable}" -c "{code}" {closed}'
    assert subprocess.run(line, shell=True, env=ENVIRONMENT, stdin=subprocess.DEVNULL).returncode == 3


@pytest.mark.skipif(os.name != "posix", reason="closes streams as a POSIX shell does")
def test_a_run_needs_no_standard_stream(dataset, tmp_path):
    flags = " ".join([*SMALL, "--epochs", "1", "--engine", "eager"])
    line = f'"{sys.executable}" "{ROOT / "run.py"}" --dataset "{dataset}" {flags} --out "{tmp_path / "a"}"'
    assert subprocess.run(f"{line} <&- >&- 2>&-", shell=True, env=ENVIRONMENT).returncode == 0
    assert (tmp_path / "a" / "results.json").exists()


# --- environment variables


@pytest.mark.parametrize(
    ("name", "value"),
    [("RANK", "x"), ("WORLD_SIZE", "abc"), ("LOCAL_RANK", "-1"), ("TORCHINDUCTOR_CACHE_DIR", "/dev/null/x")],
)
def test_a_variable_that_torch_cannot_use_is_named_before_anything_starts(name, value, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv(name, value)
    assert call("--dataset", dataset, "--out", tmp_path / "a").startswith(f"error: {name}={value}: ")
    assert not (tmp_path / "a").exists()
    assert call("--help") == 0


@pytest.mark.parametrize(
    ("text", "threads"), [("4", 4), ("4,2", 4), (" 3 ", 3), ("0", None), ("-3", None), ("many", None), ("", None)]
)
def test_threads_are_a_number_or_not_given(text, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert many.threads_given() == threads


# --- parents and children


def is_free(folder):
    try:
        Folder(folder).claim().release()
    except FolderError:
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
    assert log.rstrip().splitlines()[-1].startswith(f"stopped; {run} contains epoch ")
    assert (run / "checkpoint.pt").exists() and not list(run.glob("*.part"))
    assert call("--resume", run, "--epochs", log.count("\nepoch ") + 2) is None


def test_a_run_that_was_started_by_hand_does_not_watch_its_input():
    assert WATCHED not in os.environ
    before = threading.active_count()
    watch_parent()
    assert threading.active_count() == before


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
