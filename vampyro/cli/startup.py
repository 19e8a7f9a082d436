"""What a command does before it imports torch: its standard streams, its environment and its parent process."""

import os
import sys
import tempfile

from vampyro.errors import SpecError

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
    """Reject an environment in which torch cannot be imported, or that starts several processes of a job for one.

    Raises:
        SpecError: names the environment variable, or the job.
    """
    if folder := os.environ.get(CACHE):
        try:
            os.makedirs(folder, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise SpecError(f"{CACHE}={folder}: {error.strerror}; unset it, or name another folder") from None
    if job not in SHARED and "RANK" in os.environ and (size := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise SpecError(f"{job}: expected one process, got {size}: start it with python, not torchrun")
