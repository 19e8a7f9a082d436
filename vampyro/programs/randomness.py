"""Random numbers that depend on a key, not on earlier computations."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch


@contextmanager
def seeded(*key: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's generators from `key`, non-negative integers, inside the context; restore their state afterwards.

    This holds for the CPU's generator and, if `device` is CUDA, for those of the GPUs.

    >>> with seeded(7, 1): a = torch.rand(1)
    >>> with seeded(7, 1): b = torch.rand(1)
    >>> bool(a == b)
    True
    """
    seed = int(np.random.SeedSequence([len(key), *key]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with same_noise(device):
        reseed(seed, device)
        yield


def reseed(seed: int, device: torch.device | str = "cpu") -> None:
    """Seed all of torch's generators if `device` is CUDA, otherwise only the CPU's."""
    (torch.manual_seed if torch.device(device).type == "cuda" else torch.default_generator.manual_seed)(seed)


def same_noise(device: torch.device | str = "cpu") -> AbstractContextManager:
    """Restore the state of torch's generators after the context.

    >>> with same_noise(): a = torch.rand(1)
    >>> bool(a == torch.rand(1))
    True
    """
    return torch.random.fork_rng(range(torch.cuda.device_count()) if torch.device(device).type == "cuda" else [])
