"""The rows of an acceptance run: each is computed under a time limit, printed, and written to a JSON file at once."""

import json
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from benchmarks.timing import machine

# (value, expected, passed or None for a measurement, details)
Result = tuple[str, str, bool | None, dict]
STATUSES = ("passed", "failed", "skipped", "measured")


class Skip(Exception):
    """A row that cannot be computed here, with the reason."""


class OutOfTime(BaseException):
    """A row that took longer than its limit; not an Exception, which an engine that cannot compile would catch."""


@dataclass
class Row:
    """One line of the table.

    Attributes:
        name: unique in the run.
        proves: a sentence: the statement that a passed row supports, or the measured quantity.
        status: one of STATUSES.
        value: the finding; the reason of a skipped row, the error of a crashed one.
        expected: the condition on the value.
        seconds: how long the row took.
        details: numbers for the JSON file only.
        traceback: of a row that crashed.
    """

    name: str
    proves: str
    status: str = "skipped"
    value: str = ""
    expected: str = ""
    seconds: float = 0.0
    details: dict = field(default_factory=dict)
    traceback: str | None = None


@dataclass(frozen=True)
class Task:
    """A row to compute.

    Args:
        name, proves: as of the `Row`.
        compute: () → a `Result`.
        seconds: the least time that must be left for the task to start.
        most: the time limit, in seconds on a GPU machine.
    """

    name: str
    proves: str
    compute: Callable[[], Result]
    seconds: float = 5.0
    most: float = 60.0


class Rows:
    """Computes tasks one after the other until the time is up; no failure or crash stops the others.

    Args:
        path: the JSON file, which is replaced after every row.
        minutes: time for all tasks together.
        header: more for the JSON file, next to the machine.
        patience: how many times its time limit a task may take.
    """

    def __init__(self, path: str | os.PathLike, minutes: float, header: dict, patience: float = 1.0) -> None:
        self.path, self.rows, self.header = os.fspath(path), [], {"machine": machine()} | header
        self.patience = patience
        self.began = time.monotonic()
        self.deadline = self.began + 60 * minutes

    @property
    def left(self) -> float:
        """Seconds until the time is up."""
        return self.deadline - time.monotonic()

    def run(self, tasks: Iterator[Task], reserve: float = 0.0) -> None:
        """Computes, prints and writes the row of every task; `reserve` seconds are kept for later tasks."""
        for task in tasks:
            row = self.compute(task, self.left - reserve)
            self.rows.append(row)
            print(f"| {row.status} | {row.name} | {row.value} | {row.expected} | {row.seconds:.1f} |", flush=True)
            self.write()

    def compute(self, task: Task, left: float) -> Row:
        """The row of one task, for which that many seconds are left."""
        row = Row(task.name, task.proves)
        if left < task.seconds:
            row.value = f"{max(0.0, left):.0f} s are left and the row needs {task.seconds:.0f} s"
            return row
        began, log = time.monotonic(), Log()
        try:
            with limited(min(self.patience * task.most, left)), log:
                row.value, row.expected, passed, row.details = task.compute()
            row.status = "measured" if passed is None else "passed" if passed else "failed"
        except Skip as reason:
            row.value = str(reason)
        except (Exception, OutOfTime) as error:  # whatever it is, the other rows are computed
            row.status, row.traceback = "failed", traceback.format_exc()
            row.value = f"{type(error).__name__}: {error}".splitlines()[0][:160].replace("|", "/")
        row.seconds = time.monotonic() - began
        if log.messages:
            row.details = row.details | {"log": log.messages}
        return row

    def write(self) -> None:
        """Replaces the JSON file."""
        counts = {status: sum(row.status == status for row in self.rows) for status in STATUSES}
        content = self.header | {"counts": counts, "rows": [asdict(row) for row in self.rows]}
        content["seconds"] = time.monotonic() - self.began
        with open(f"{self.path}.part", "w") as file:
            json.dump(content, file, indent=1, default=str)
        os.replace(f"{self.path}.part", self.path)

    def summary(self) -> str:
        """A few lines: the counts, and the rows that failed."""
        counts = ", ".join(f"{sum(row.status == status for row in self.rows)} {status}" for status in STATUSES)
        failed = [f"failed: {row.name}: {row.value}" for row in self.rows if row.status == "failed"]
        return "\n".join([*failed, f"{counts}; {time.monotonic() - self.began:.0f} s → {self.path}"])


class Log(logging.Handler):
    """Collects the warnings that are logged inside."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    def __enter__(self) -> "Log":
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger().removeHandler(self)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises OutOfTime inside after that many seconds, in the main thread of a system that has timers."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        raise OutOfTime(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
