"""Environment variables that torch reads as it starts, checked before it does."""

import os
import tempfile
from pathlib import Path

CACHE = "TORCHINDUCTOR_CACHE_DIR"
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")  # as torchrun sets them
SHARED = ("train", "score")  # jobs that several processes share


class EnvironmentFault(ValueError):
    """An environment variable that would end in a traceback."""


def check_environment(job: str) -> None:
    """Raise an `EnvironmentFault` where a variable does not hold what torch or the job expects."""
    for name in RANKS:
        value = os.environ.get(name)
        if value is not None and not value.isdecimal():
            raise EnvironmentFault(f"{name}={value}: expected a number, as torchrun sets it; unset {name}")
    rank, size = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and rank >= size:
        raise EnvironmentFault(f"RANK={rank}: expected a number below WORLD_SIZE={size}; unset both, or use torchrun")
    if "RANK" in os.environ and size > 1 and job not in SHARED:
        raise EnvironmentFault(f"{job}: expected one process, got {size}: start it with python, not torchrun")
    if (value := os.environ.get(CACHE)) and not _is_writable(Path(value)):
        raise EnvironmentFault(f"{CACHE}={value}: not a writable directory; unset it, or name another")


def threads() -> int | None:
    """Return the number of threads that OMP_NUM_THREADS asks for, None where it holds no such number.

    A list, "4,2", is for nested loops; its first number is the outer one's.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and 0 < int(first) < 2**31 else None


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
