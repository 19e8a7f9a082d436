"""How much may be computed at once."""

import torch

from capacity import MadeBytes, available_bytes

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
        with MadeBytes() as counter:
            compute(rows)
        made.append(counter.made)
    row = max(1, (made[1] - made[0]) // (more * images))
    return max(1, min(most_rows(device), (available_bytes(device) - made[0]) // 2 // row))


def keep_freed_memory():
    """Has the C library of Linux keep what is freed, up to 64 MiB: what is asked for next need not be cleared again.

    It gives memory back from a size on that it learns, twice the largest block of no more than 32 MiB ever freed.
    This frees one that nobody has touched. A third of scoring's time was the system clearing pages.
    """
    torch.empty(2**25 - 2**12, dtype=torch.uint8)
