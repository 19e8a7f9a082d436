"""How much memory is left, how much a computation takes, and errors for what does not fit."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vampyro.errors import CapacityError

UNKNOWN = 2**40  # bytes, where the system does not say how much is left
GROUP = Path("/sys/fs/cgroup")  # a container's own limit


def available_bytes(device: torch.device | str = "cpu") -> int:
    """Return how many bytes this process may still allocate there; on a CPU those of the machine, or its container."""
    if torch.device(device).type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    left = [UNKNOWN]
    with suppress(OSError, ValueError, LookupError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        left += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):  # "max" where there is no limit
        limit, used = (int((GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = re.search(r"^inactive_file ([0-9]+)", (GROUP / "memory.stat").read_text(), re.MULTILINE)
        left.append(limit - used + (int(cached[1]) if cached else 0))
    return min(left)


def spoken_bytes(count: int) -> str:
    """Return a number of bytes as text.

    >>> [spoken_bytes(count) for count in (999, 31_360_000, 3_136_000_000_000)]
    ['999 bytes', '31.4 MB', '3.1 TB']
    """
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB")):
        if count >= 10**power:
            return f"{count / 10**power:.1f} {unit}"
    return f"{count} bytes"


def check_fits(what: str, count: int, remedy: str, available: int | None = None) -> None:
    """Raise a `CapacityError` where `what` needs more bytes than are available; `remedy` is what to do.

    >>> check_fits("prior 'mog:9'", 10**9, "choose a smaller N", available=10**6)    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vampyro.errors.CapacityError: prior 'mog:9' needs at least 1.0 GB of memory, and 1.0 MB are available: choose ...
    """
    available = available_bytes() if available is None else available
    if count > available:
        raise CapacityError(
            f"{what} needs at least {spoken_bytes(count)} of memory, and {spoken_bytes(max(0, available))} "
            f"are available: {remedy}"
        )


# Words of torch's CPU allocator on Linux and on Windows, of CUDA, and of cuBLAS and cuDNN.
OUT_OF_MEMORY = "can't allocate memory|not enough memory|out of memory|STATUS_ALLOC_FAILED|bad_alloc"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on whichever device.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes differ"))
    (True, False)
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and re.search(OUT_OF_MEMORY, str(error)) is not None


@contextmanager
def memory_for(work: str, *flags: str) -> Iterator[None]:
    """Inside, an out-of-memory error of any kind becomes a `CapacityError` that names the flags which reduce the work.

    >>> with memory_for("scoring", "--samples", "--hidden"):
    ...     raise MemoryError
    Traceback (most recent call last):
    vampyro.errors.CapacityError: out of memory while scoring: a smaller --samples or --hidden needs less
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        *others, last = flags
        names = f"{', '.join(others)} or {last}" if others else last
        raise CapacityError(f"out of memory while {work}: a smaller {names} needs less") from None


def tensors_in(values: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested sequences and dictionaries; torch's pytrees take five times as long."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, dict):
        yield from tensors_in(list(values.values()))


class MadeBytes(TorchDispatchMode):
    """Adds up the size of every tensor that an operation returns, in `made`; views are not counted."""

    def __init__(self):
        super().__init__()
        self.made = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        known = {t.untyped_storage()._cdata for t in tensors_in((args, kwargs))}
        self.made += sum(t.nbytes for t in tensors_in(result) if t.untyped_storage()._cdata not in known)
        return result


class Allowance(MadeBytes):
    """Reject, while a part is built, the first tensor for which there is no memory, before it is allocated.

    Args:
        what, remedy: as for `check_fits`.
        copies: how many times the memory of the part is needed in all; with its gradient and Adam's moments 4 times.

    >>> with Allowance("hidden (10000000000,)", "choose smaller widths"):    # doctest: +ELLIPSIS
    ...     layer = torch.nn.Linear(784, 10**10)
    Traceback (most recent call last):
    vampyro.errors.CapacityError: hidden (10000000000,) needs at least 31.4 TB of memory, and ... are available: ...
    """

    def __init__(self, what: str, remedy: str, copies: int = 1):
        super().__init__()
        self.what, self.remedy, self.copies = what, remedy, copies
        self.available = available_bytes()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        needed = self.copies * (self.made + _requested_bytes(function, args, kwargs or {}))
        check_fits(self.what, needed, self.remedy, self.available)
        return super().__torch_dispatch__(function, types, args, kwargs)

    def __exit__(self, kind, error, trace):
        super().__exit__(kind, error, trace)
        beyond_64_bits = isinstance(error, (RuntimeError, TypeError)) and "overflow" in str(error).lower()
        if beyond_64_bits or is_out_of_memory(error):
            available = spoken_bytes(self.available)
            raise CapacityError(
                f"{self.what} needs more memory than the {available} that are available: {self.remedy}"
            ) from None


def _requested_bytes(function: Any, args: tuple, kwargs: dict) -> int:
    """Return the bytes of the tensor that a call of `torch.empty` or its like makes; 0 for every other function."""
    if next(tensors_in((args, kwargs)), None) is not None:
        return 0
    for place, argument in enumerate(function._schema.arguments):
        if argument.name == "size":
            size = args[place] if place < len(args) else kwargs.get("size", ())
            return math.prod(size) * (kwargs.get("dtype") or torch.get_default_dtype()).itemsize
    return 0


def most_rows(device: torch.device) -> int:
    """Rows decoded at a time: on a CPU they should stay in its caches, anywhere else keep all of it busy."""
    return 2048 if device.type == "cpu" else 131072


def rows_that_fit(compute: Callable[[int], Any], device: torch.device, images: int = 1) -> int:
    """Return the most rows that half of the free memory holds, from what `compute(n)` makes for two values of n.

    A row is one sample of one image, so `compute(n)` makes n · `images` rows. Every byte that more rows make counts as
    if none were ever given back, so memory is left over. Tensors that do not depend on n do not count.

    >>> rows_that_fit(lambda rows: torch.zeros(rows, 1000), torch.device("cpu")) <= 2048
    True
    """
    compute(1)  # what is made once, the first time, is made
    made, more = [], max(1, 32 // images)
    for rows in (1, 1 + more):
        with MadeBytes() as counter:
            compute(rows)
        made.append(counter.made)
    row = max(1, (made[1] - made[0]) // (more * images))
    return max(1, min(most_rows(device), (available_bytes(device) - made[0]) // 2 // row))


def keep_freed_memory() -> None:
    """Make the C library of Linux keep freed memory, up to 64 MiB, so that it need not be cleared again.

    The library returns memory above a size that it learns, twice the largest block of at most 32 MiB ever freed. This
    frees one that nobody has touched. A third of scoring's time was the system clearing pages.
    """
    torch.empty(2**25 - 2**12, dtype=torch.uint8)
