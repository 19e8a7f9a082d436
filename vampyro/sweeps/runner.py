"""Do many runs, each in a process of its own, `python run.py …`; several at a time, on a cluster too."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vampyro.runs import config as flags
from vampyro.runs.results import FolderError, Results, read_config
from vampyro.runs.signals import WATCHED
from vampyro.sweeps.grid import Cell, SweepError
from vampyro.sweeps.table import metrics_of

STOP = threading.Event()  # set on Ctrl-C: no further run starts
CHILDREN: set[subprocess.Popen] = set()
# Exit statuses after SIGHUP, SIGINT and SIGTERM; negative before a process handles them.
STOPPED = {status for number in (1, 2, 15) for status in (-number, 128 + number)}
COMMAND = "$ python run.py"  # the start of a line in a log, before the lines of one process
GRACE = 20  # seconds that runs have on Ctrl-C to end in good order


@dataclass(frozen=True)
class Run:
    """One run of a sweep: its cell, seed and folder, and the measures to make of it."""

    cell: Cell
    seed: int
    folder: Path
    measures: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.cell.name} · seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `error` is None where it is finished, else a line about what happened."""

    run: Run
    seconds: float
    error: str | None = None


def finished(run: Run) -> bool:
    """Return whether the results and all measures of a run exist; a SweepError where another run is in its folder."""
    try:
        saved = read_config(run.folder)
    except FolderError:
        return False
    if different := _different(run, saved):
        theirs = " ".join(flags.words({name: saved[name] for name in different})) or f"no {flags.flags_of(different)}"
        raise SweepError(f"{run.folder} holds another run ({theirs}): choose another --out")
    return not _missing(run)


def _different(run: Run, saved: Mapping[str, Any]) -> list[str]:
    """Return the names of the run's settings that differ from saved ones."""
    config = run.cell.config | {"seed": run.seed}
    return [name for name, value in config.items() if name not in flags.WHERE and saved.get(name, value) != value]


def _missing(run: Run) -> list[str]:
    """Return what is still to be done: `test`, and measures.

    Results of other settings do not count: a run that was made longer and stopped still has those of the shorter one.
    """
    if metrics_of(run.folder) is None or _different(run, (results := Results.read(run.folder)).scored_config):
        return ["test", *run.measures]
    return [m for m in run.measures if m not in results.measures()]


def impossible_measures(run: Run) -> dict[str, str]:
    """Return {measure: why} of the measures that are not possible of this run, and so are not missing."""
    results = read_results(run)
    measured = results.measures() if results else {}
    return {m: measured[m]["not measured"] for m in run.measures if "not measured" in measured.get(m, ())}


def read_results(run: Run) -> Results | None:
    """Return the contents of the run's folder, None where they cannot be read."""
    try:
        return Results.read(run.folder)
    except FolderError:
        return None


def execute(run: Run, threads: int | None = None, cwd: str | None = None) -> Outcome:
    """Train the run, or resume it, then measure it, each in a process with that many threads, started in `cwd`.

    The output is appended to log.txt.
    """
    began = time.perf_counter()

    def outcome(error: str | None = None) -> Outcome:
        return Outcome(run, time.perf_counter() - began, error)

    missing = _missing(run)
    steps = [_training(run)] if "test" in missing else []
    if run.measures and missing:
        what = ["--measures", ",".join(run.measures), *_where(run, "data_dir", "device", "parts")]
        steps.append(["score", str(run.folder), *what])
    log = run.folder / "log.txt"
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        log.touch()
    except OSError as error:
        return outcome(f"cannot write to {run.folder}: {error.strerror}")
    for argv in steps:
        if STOP.is_set():
            return outcome("not started")
        start = log.stat().st_size
        try:
            status = launch(argv, log, threads, cwd)
        except OSError as error:
            return outcome(f"{error} ({log})")
        if status and (_missing(run) or not impossible_measures(run)):
            return outcome(f"{_reason(status, log, start)} ({log})")
    return outcome()


def _reason(status: int, log: Path, start: int) -> str:
    """Return why a process failed, from its exit status and its lines of the log, which begin at byte `start`.

    Another process may have written between them, so an error counts before the last line.
    """
    if status in STOPPED:
        return "stopped"
    if status < 0:
        return f"killed by signal {-status}"
    with log.open("rb") as file:
        file.seek(start)
        written = file.read().decode(errors="replace").splitlines()
    lines = [line for line in written if line.strip() and not line.startswith(COMMAND)]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [f"exit status {status}"])[-1]


def _training(run: Run) -> list[str]:
    if (run.folder / "config.json").exists():
        return ["--resume", str(run.folder), *_where(run, *(name for name in flags.WHERE if name != "out"))]
    return [*run.cell.words(run.seed), "--out", str(run.folder)]


def _where(run: Run, *names: str) -> list[str]:
    """Return those of the named settings that were given, as flags."""
    return flags.words({name: run.cell.given[name] for name in names if name in run.cell.given})


def launch(argv: Sequence[str], log: Path, threads: int | None = None, cwd: str | None = None) -> int:
    """Run `python run.py ARGV` in a process of its own, its output appended to `log`; return its exit status."""
    variables = os.environ | {WATCHED: "1"} | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    with log.open("ab") as file:
        file.write(f"{COMMAND} {' '.join(argv)}\n".encode())
        file.flush()
        child = subprocess.Popen(
            [sys.executable, "-m", "vampyro", *argv],
            stdin=subprocess.PIPE,  # which ends when this process does
            stdout=file,
            stderr=subprocess.STDOUT,
            env=variables,
            cwd=cwd,
        )
        CHILDREN.add(child)
        try:
            return child.wait()
        finally:
            CHILDREN.discard(child)
            if child.stdin:
                child.stdin.close()


def threads_given() -> int | None:
    """Return the number in OMP_NUM_THREADS, or None; of a list for nested loops, "4,2", the first."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and 0 < int(first) < 2**31 else None


def run_all(
    runs: Sequence[Run],
    tell: Callable[[Outcome], None],
    jobs: int = 1,
    threads: int | None = None,
    dask: str | None = None,
) -> None:
    """Call `tell` with each run's `Outcome` as it ends; after Ctrl-C stop all runs in good order first.

    Args:
        jobs: how many at a time, on this machine.
        threads: of each run; by default OMP_NUM_THREADS where it is set, else the run's share of the cores.
        dask: address of a Dask scheduler, whose workers then do the runs. They must see the same folders.
    """
    import joblib

    if threads is None and dask is None:
        threads = threads_given() or max(1, joblib.cpu_count() // min(jobs, len(runs) or 1))
    STOP.clear()
    with _cluster(dask) if dask else nullcontext():
        jobs = min(jobs, max(1, len(runs)))
        backend = {} if dask else {"n_jobs": jobs, "backend": "threading"}  # a thread waits for its process
        runs = [replace(run, folder=run.folder.absolute()) for run in runs] if dask else runs  # workers are elsewhere
        parallel = joblib.Parallel(return_as="generator_unordered", pre_dispatch="all", **backend)
        try:
            for outcome in parallel(joblib.delayed(execute)(run, threads, os.getcwd()) for run in runs):
                tell(outcome)
        except KeyboardInterrupt:
            _stop()
            raise


def _stop() -> None:
    """End all children as Ctrl-C does; a terminal has already sent it to them."""
    STOP.set()
    for wait, tell in ((3, signal.SIGINT), (GRACE, signal.SIGTERM)):
        until = time.monotonic() + wait
        while CHILDREN and time.monotonic() < until:
            time.sleep(0.05)
        for child in list(CHILDREN):
            with suppress(OSError):
                child.send_signal(tell)


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    try:
        from distributed import Client
    except ImportError:
        raise SweepError("--dask needs dask.distributed: pip install distributed") from None
    import joblib

    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise SweepError(f"--dask {address}: no scheduler answers there ({error})") from None
    with client, joblib.parallel_config(backend="dask"):
        yield
