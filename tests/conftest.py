"""What tests share: every spec of a family, parameters of trained size, a grid over the plane, a small set."""

import signal
from contextlib import nullcontext, suppress

import numpy as np
import pyro
import pytest
import torch

from tests.helpers import as_trained

with suppress(ValueError):  # where this is no main thread
    # Some shells start background jobs with Ctrl-C ignored, and nohup ignores SIGHUP: child processes would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
torch.set_num_threads(1)  # small tensors: on a busy machine threads wait for one another, fifty times as long


@pytest.fixture(autouse=True)
def fresh_state():
    """Every test starts with the same seed and nothing in Pyro's store, and leaves torch's default dtype as it was."""
    dtype = torch.get_default_dtype()
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    yield
    torch.set_default_dtype(dtype)


@pytest.fixture
def trained():
    return as_trained


@pytest.fixture
def plane():
    """plane(low, high, count): midpoints of a grid over [low, high]², (count², 2) in float64, and a cell's area."""

    def midpoints(low, high, count):
        low, high = (torch.as_tensor(t, dtype=torch.float64).expand(2) for t in (low, high))
        width = (high - low) / count
        axes = [a + w * (torch.arange(count, dtype=torch.float64) + 0.5) for a, w in zip(low, width)]
        return torch.cartesian_prod(*axes), width.prod()

    return midpoints


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Blobs of 1×6×5 pixels; 100 training images, so that the last batch is short."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, **{split: rng.random((n, 6, 5)) ** 2 for split, n in [("train", 100), ("valid", 30), ("test", 25)]})
    return path


@pytest.fixture
def no_streams(monkeypatch):
    """torch.cuda's streams where there are none: what is put on one is done at once."""
    stream = type("Stream", (), {"wait_stream": lambda self, other: None})
    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
