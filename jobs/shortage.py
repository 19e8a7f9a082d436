"""Out of memory: what was being done, and which flags reduce it."""

from collections.abc import Iterator
from contextlib import contextmanager

from capacity import is_out_of_memory


class MemoryShortage(Exception):
    """There is not enough memory for one piece of work; the message names the work and the flags that reduce it."""


@contextmanager
def memory_for(work: str, *flags: str) -> Iterator[None]:
    """Inside, an out-of-memory error of any kind becomes a `MemoryShortage`.

    Args:
        work: what is done inside, as it follows "out of memory while".
        flags: those that make it smaller.

    >>> with memory_for("scoring", "--samples", "--hidden"):
    ...     raise MemoryError
    Traceback (most recent call last):
    jobs.shortage.MemoryShortage: out of memory while scoring: a smaller --samples or --hidden needs less
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        *others, last = flags
        names = f"{', '.join(others)} or {last}" if others else last
        raise MemoryShortage(f"out of memory while {work}: a smaller {names} needs less") from None
