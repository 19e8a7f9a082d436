"""Signals that stop a run: Ctrl-C, SIGTERM from a scheduler, or the end of the parent process."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager


class Terminated(KeyboardInterrupt):
    """Raised for SIGTERM, and for SIGHUP from a closed terminal, as KeyboardInterrupt is for Ctrl-C."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        self.number = number


@contextmanager
def handling(numbers: Iterable[int], handler: signal.Handlers | Callable) -> Iterator[None]:
    """Handle these signals with `handler` inside the context, if this is the main thread (Python requires that)."""
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` for SIGTERM and SIGHUP inside the context, so that temporary files are deleted.

    Only the first signal counts, because the command is already ending when a scheduler sends another. SIGHUP stays
    ignored if it is, as with nohup.

    >>> try:
    ...     with terminable():
    ...         signal.raise_signal(signal.SIGTERM)
    ... except KeyboardInterrupt as stop:
    ...     status(stop)
    143
    """
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    numbers = [n for n in numbers if signal.getsignal(n) != signal.SIG_IGN]

    def terminate(number, frame):
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        raise Terminated(number)

    with handling(numbers, terminate):
        yield


def deadly() -> AbstractContextManager[None]:
    """End the process immediately on Ctrl-C and SIGTERM inside the context: for code in C++ that waits."""
    return handling((signal.SIGINT, signal.SIGTERM), signal.SIG_DFL)


def status(stop: KeyboardInterrupt) -> int:
    """Return the exit status of a stopped command, 128 + the number of the signal, as in a shell."""
    return 128 + (stop.number if isinstance(stop, Terminated) else signal.SIGINT)


WATCHED = "VAMPYRO_ENDS_WITH_STDIN"  # set for a child whose standard input is a pipe from its parent
GRACE = 5  # seconds for a child to end properly


def watch_parent() -> None:
    """Stop a child process that was started with WATCHED, as SIGTERM does, when its standard input ends.

    The operating system closes the parent's end of the pipe even after kill -9. Otherwise the child would keep its
    folder locked, and the command of the parent could not be repeated.
    """
    if os.environ.pop(WATCHED, None):
        threading.Thread(target=_wait_and_stop, daemon=True).start()


def _wait_and_stop() -> None:
    try:
        while os.read(0, 1024):
            pass
    except OSError:  # the same as its end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(128 + signal.SIGTERM)
