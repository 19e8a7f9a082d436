"""Random numbers that depend on what is computed, not on what ran before."""

from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(*key, device="cpu"):
    """Inside, torch's generators start from `key`, a few non-negative integers; outside they go on as if nothing ran.

    >>> with seeded(7, 1): a = torch.rand(1)
    >>> with seeded(7, 1): b = torch.rand(1)
    >>> bool(a == b)
    True
    """
    device = torch.device(device)
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(np.random.SeedSequence([len(key), *key]).generate_state(1, np.uint64)[0] >> np.uint64(1)))
        yield
