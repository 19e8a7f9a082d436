"""How much may be computed at once."""

import os
import re

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MORE = 32


def most_rows(device):
    """Rows decoded at a time: on a CPU they should stay in its caches, anywhere else keep all of it busy."""
    return 2048 if device.type == "cpu" else 131072


def rows_that_fit(compute, device, images=1):
    """The most rows that half of the free memory holds, from what `compute(n)` makes for few n and for more.

    A row is one sample of one image, so `compute(n)` makes n · `images` rows.

    Counts every byte that more rows make as if none were ever given back: too many, so memory is left over. What is
    made however few the rows are (parameters in another precision, an encoded image) is no row's.

    >>> rows_that_fit(lambda rows: torch.zeros(rows, 1000), torch.device("cpu")) <= 2048
    True
    """
    compute(1)  # what is made once, the first time, is made
    made, more = [], max(1, MORE // images)
    for rows in (1, 1 + more):
        with _Made() as counter:
            compute(rows)
        made.append(counter.bytes)
    row = max(1, (made[1] - made[0]) // (more * images))
    return max(1, min(most_rows(device), (free(device) - made[0]) // 2 // row))


def keep_freed_memory():
    """Has the C library of Linux keep what is freed, up to 64 MiB: what is asked for next need not be cleared again.

    It gives memory back from a size on that it learns, twice the largest block of no more than 32 MiB ever freed.
    This frees one that nobody has touched. A third of scoring's time was the system clearing pages.
    """
    torch.empty(2**25 - 2**12, dtype=torch.uint8)


def free(device):
    """Bytes."""
    if device.type == "cuda":
        return (
            torch.cuda.mem_get_info(device)[0]
            + torch.cuda.memory_reserved(device)
            - torch.cuda.memory_allocated(device)
        )
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system says
        return 2**31


class _Made(TorchDispatchMode):
    """Adds up the size of every tensor that an operation returns."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        known = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        made = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        self.bytes += sum(t.nbytes for t in made if t.untyped_storage()._cdata not in known)  # a view is nothing new
        return result


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
