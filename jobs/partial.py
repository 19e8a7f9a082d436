"""The blocks of a long scoring that are done, on disk now and then, for it to go on after an interruption."""

import json
import time

import numpy
import torch

from data import atomic
from inference import Score
from inference.scores import TENSORS
from inference.weights import sizes

SECONDS = 10  # between two writings


class Partial:
    """A file of `Score`s; what was made with other settings is no part.

    Args:
        path: of the file.
        settings: whatever decides the scores, as JSON.
    """

    def __init__(self, path, settings):
        self.path, self.settings = path, json.dumps(settings, sort_keys=True)
        self.scores, self.written = [], time.monotonic()

    def load(self):
        """The first blocks' scores."""
        try:
            with numpy.load(self.path, allow_pickle=False) as file:
                if str(file["settings"]) == self.settings:
                    tensors = (torch.from_numpy(file[name]) for name in TENSORS)
                    whole = Score(*tensors, int(file["samples"]), bool(file["exact"]))
                    self.scores = split(whole, file["counts"])
        except Exception:  # none, or none that can be read: zipfile, zlib and numpy have a dozen ways to say so
            self.scores = []
        return list(self.scores)

    def discard(self) -> None:
        """Start again: the scores that were loaded are not used."""
        self.scores = []

    def add(self, score):
        self.scores.append(score)
        if time.monotonic() - self.written > SECONDS:
            self.write()

    def write(self):
        whole = Score.cat(self.scores)
        arrays = dict(zip(TENSORS, (tensor.numpy() for tensor in whole.tensors())))
        with atomic.writing(self.path) as file:
            counts = [len(score) for score in self.scores]
            numpy.savez(file, **arrays, samples=whole.samples, exact=whole.exact, counts=counts, settings=self.settings)
        self.written = time.monotonic()

    def remove(self):
        self.path.unlink(missing_ok=True)


def split(whole: Score, counts: numpy.ndarray) -> list[Score]:
    """Return the blocks' scores, `counts` images each.

    Raises:
        ValueError: where an array does not have the type and shape of a score's.
    """
    for name in TENSORS:
        tensor, images = getattr(whole, name), (int(counts.sum()),)
        shape = (0 if whole.exact else len(sizes(whole.samples)), *images) if name == "curve" else images
        if tensor.dtype != torch.float64 or tensor.shape != shape:
            raise ValueError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, expected float64 of {shape}")
    if whole.log_likelihood.isnan().any():
        raise ValueError("log_likelihood is NaN, which no scoring keeps")
    if counts.ndim != 1 or counts.min(initial=1) < 1:
        raise ValueError(f"expected counts of images, got {counts}")
    ends = counts.cumsum()
    return [whole[end - count : end] for end, count in zip(ends, counts)]
