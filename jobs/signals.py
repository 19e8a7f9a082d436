"""How a run is asked to stop: Ctrl-C, or a scheduler's SIGTERM."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager


class Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP from a terminal that was closed, where Ctrl-C would be a plain KeyboardInterrupt."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        self.number = number


@contextmanager
def handling(numbers: Iterable[int], handler: signal.Handlers | Callable) -> Iterator[None]:
    """Inside, `handler` handles these signals. In another thread than the main one nothing changes: none may."""
    if threading.current_thread() is not threading.main_thread():
        numbers = ()
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP are exceptions as Ctrl-C is: temporary files vanish, and the job says how to go on.

    Only the first counts: the job is ending already when a scheduler repeats itself. SIGHUP stays ignored where it
    is, as under nohup.

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
    """Inside, Ctrl-C and SIGTERM end the process at once: for waits in C++ that never return to Python.

    There must be nothing to lose yet.
    """
    return handling((signal.SIGINT, signal.SIGTERM), signal.SIG_DFL)


def status(stop):
    """The exit status of a job that was stopped, 128 + the signal's number, as shells have it."""
    return 128 + (stop.number if isinstance(stop, Terminated) else signal.SIGINT)
