"""Set up standard streams and the environment of a command, and report what is kept after an early end."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

from vampyro.errors import CapacityError, SpecError, UserError

CACHE = "TORCHINDUCTOR_CACHE_DIR"
SHARED = ("train", "score")  # jobs that several processes share, as torchrun starts them


def open_closed_streams() -> None:
    """Connect each standard stream that is closed (`2>&-` in a shell) to the null device.

    Otherwise Python has None in its place, which no progress bar can write to. The next file that is opened, a
    checkpoint for example, would also get the stream's number, and what a library writes there would end up in it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))


def check_environment(job: str) -> None:
    """Raise a SpecError if torch cannot be imported, or if torchrun starts a command for one process."""
    if folder := os.environ.get(CACHE):
        try:
            os.makedirs(folder, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise SpecError(f"{CACHE}={folder}: {error.strerror}; unset it, or use another folder") from None
    if job not in SHARED and "RANK" in os.environ and (size := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise SpecError(f"{job} runs in one process, and torchrun starts {size}: use python instead")


def print_by_line() -> None:
    """Write each line when it is printed, also to a file."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


@contextmanager
def keeping(kept: str) -> Iterator[None]:
    """Say what is `kept` where a full disk, a shortage of memory or a signal ends the work inside."""
    try:
        yield
    except (OSError, CapacityError) as error:
        raise UserError(f"{error}; {kept}") from None
    except KeyboardInterrupt:
        print(f"\nstopped: {kept}", file=sys.stderr)
        raise
