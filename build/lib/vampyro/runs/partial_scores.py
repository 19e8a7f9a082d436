"""The blocks of a long scoring that are done, on disk now and then, for it to go on after an interruption."""

import json
import time

import numpy
import torch

from vampyro import files as atomic
from vampyro.likelihood import Score
from vampyro.likelihood.scores import TENSORS

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
                    if whole.log_likelihood.isnan().any():
                        raise ValueError("no scoring keeps NaN")
                    ends = file["counts"].cumsum()
                    self.scores = [whole[end - count : end] for end, count in zip(ends, file["counts"])]
        except Exception:  # none, or none that can be read: zipfile, zlib and numpy have a dozen ways to say so
            self.scores = []
        return list(self.scores)

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
