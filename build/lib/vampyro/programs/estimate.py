"""Means over random draws, and how far off they may be."""

import math
from dataclasses import dataclass

import torch


def standard_error(values):
    """Of the mean of (N,) values, by how they differ; nan for a single one."""
    return (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else math.nan


def or_none(value):
    """A figure as JSON may hold it: None for nan, which is what is not known."""
    return None if math.isnan(value) else value


def counted(count: int, noun: str) -> str:
    """Return a number and its noun.

    >>> counted(1, "image"), counted(9, "image")
    ('1 image', '9 images')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


@dataclass(frozen=True, eq=False)
class Estimate:
    """A Monte-Carlo mean for each image with its own standard error: float64 tensors (N, …).

    The error is that of the draws, for these images; how much images differ from one another is no part of it.

    >>> reconstruction = Estimate.of(torch.tensor([[-90.0, -70.0], [-92.0, -70.0]]))    # two draws for two images
    >>> reconstruction
    Estimate(-80.5000 ± 0.5000 over 2 images)
    >>> reconstruction.errors
    tensor([1., 0.], dtype=torch.float64)
    """

    values: torch.Tensor
    errors: torch.Tensor

    @classmethod
    def of(cls, draws):
        """Of independent draws (S, N, …), S ≥ 2."""
        draws = draws.double()
        return cls(draws.mean(0), draws.std(0) / math.sqrt(len(draws)))

    @classmethod
    def cat(cls, estimates):
        """Of all images, from those of some."""
        return cls(*(torch.cat([getattr(e, name) for e in estimates]) for name in ("values", "errors")))

    @property
    def mean(self):
        """Over images: (…)."""
        return self.values.mean(0)

    @property
    def error(self):
        """Of `mean`; images are drawn for independently: (…)."""
        return self.errors.square().sum(0).sqrt() / len(self.errors)

    def __repr__(self):
        if self.values.ndim > 1:
            return f"Estimate({len(self.values)} images × {'×'.join(map(str, self.values.shape[1:]))})"
        return f"Estimate({self.mean:.4f} ± {self.error:.4f} over {len(self.values)} images)"
