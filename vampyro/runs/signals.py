"""How a run is asked to stop: Ctrl-C, a scheduler's SIGTERM, or the end of its parent process."""

import os
import signal
import threading
import time
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
        numbers = []
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
    """Inside, Ctrl-C and SIGTERM end the process at once: for waits in C++, which do not return to Python."""
    return handling((signal.SIGINT, signal.SIGTERM), signal.SIG_DFL)


def status(stop: KeyboardInterrupt) -> int:
    """Return the exit status of a job that was stopped, 128 + the signal's number, as shells have it."""
    return 128 + (stop.number if isinstance(stop, Terminated) else signal.SIGINT)


WATCHED = "VAMPYRO_ENDS_WITH_STDIN"  # set for a child whose standard input is a pipe that its parent holds
GRACE = 5  # seconds for an orphan to end in good order


def watch_parent() -> None:
    """In a child that was started with WATCHED: stop, as SIGTERM does, when its standard input ends.

    The system closes the parent's end of the pipe even after kill -9. An orphan that went on would hold the lock of
    its folder, and the parent's command could not be started again.
    """
    if os.environ.pop(WATCHED, None):
        threading.Thread(target=_wait_and_stop, daemon=True).start()


def _wait_and_stop() -> None:
    try:
        while os.read(0, 1024):
            pass
    except OSError:  # as good as its end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(128 + signal.SIGTERM)
