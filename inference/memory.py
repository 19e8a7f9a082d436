"""How much may be computed at once."""

import os

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Rows decoded at a time: on a CPU they should stay in its caches, on a GPU keep all of it busy.
MOST_ROWS = {"cpu": 2048, "cuda": 131072}


def rows_that_fit(compute, rows, device):
    """The most rows that half of the free memory holds, from a run of `compute()` over `rows` of them.

    Counts every byte that the run makes as if none were ever given back: too many, so memory is left over.

    >>> rows_that_fit(lambda: torch.zeros(2, 1000), 2, torch.device("cpu")) <= MOST_ROWS["cpu"]
    True
    """
    made = _Made()
    with made:
        compute()
    return max(1, min(MOST_ROWS[device.type], free(device) // 2 * rows // max(1, made.bytes)))


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
        self.bytes += sum(t.nbytes for t in tree_leaves(result) if isinstance(t, torch.Tensor))
        return result


def is_out_of_memory(error):
    """Whether that is what a RuntimeError says, of whichever device."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
