"""Random numbers that depend on what is computed, not on what ran before."""

from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(*key, device="cpu"):
    """Inside, torch's generators start from `key`, a few non-negative integers; outside they go on as if nothing ran.

    The CPU's generator, and for a CUDA `device` the GPUs' too.

    >>> with seeded(7, 1): a = torch.rand(1)
    >>> with seeded(7, 1): b = torch.rand(1)
    >>> bool(a == b)
    True
    """
    seed = int(np.random.SeedSequence([len(key), *key]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with same_noise(device):
        reseed(seed, device)
        yield


def reseed(seed, device="cpu"):
    """torch's generators start anew: all of them for a CUDA `device`, otherwise the CPU's alone."""
    (torch.manual_seed if torch.device(device).type == "cuda" else torch.default_generator.manual_seed)(seed)


@contextmanager
def same_noise(device="cpu"):
    """Inside, random numbers are those that would have come next; outside they come as if nothing had run.

    >>> with same_noise(): a = torch.rand(1)
    >>> bool(a == torch.rand(1))
    True
    """
    with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.device(device).type == "cuda" else []):
        yield
