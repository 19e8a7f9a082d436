"""How a run is asked to stop: Ctrl-C, or a scheduler's SIGTERM."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """SIGTERM, where Ctrl-C would be a plain KeyboardInterrupt."""


@contextmanager
def terminable():
    """Inside, SIGTERM is an exception as Ctrl-C is one: files half written vanish, and the job says how to go on.

    Only the first: the job is ending already when a scheduler repeats itself.

    >>> try:
    ...     with terminable():
    ...         signal.raise_signal(signal.SIGTERM)
    ... except KeyboardInterrupt as stop:
    ...     status(stop)
    143
    """

    def terminate(number, frame):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def deadly() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM end the process at once: for waits in C++ that never return to Python.

    There must be nothing to lose yet.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def status(stop):
    """The exit status of a job that was stopped, 128 + the signal's number, as shells have it."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
