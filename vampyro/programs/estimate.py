"""Monte Carlo means and their standard errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


def standard_error(values: torch.Tensor) -> float:
    """Return the standard error of the mean of (N,) values; NaN for a single one."""
    return (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else math.nan


def or_none(value: float) -> float | None:
    """Return a number for JSON: None for NaN, which means unknown."""
    return None if math.isnan(value) else value


def with_noun(count: int, noun: str) -> str:
    """Return a number and its noun.

    >>> with_noun(1, "image"), with_noun(9, "image")
    ('1 image', '9 images')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


@dataclass(frozen=True, eq=False)
class Estimate:
    """A Monte Carlo mean for each image with its standard error: float64 tensors (N, …).

    The error is that of the samples, for these images. The variation between images is not part of it.

    >>> reconstruction = Estimate.of(torch.tensor([[-90.0, -70.0], [-92.0, -70.0]]))    # two samples for two images
    >>> reconstruction
    Estimate(-80.5000 ± 0.5000 over 2 images)
    >>> reconstruction.errors
    tensor([1., 0.], dtype=torch.float64)
    """

    values: torch.Tensor
    errors: torch.Tensor

    @classmethod
    def of(cls, samples: torch.Tensor) -> "Estimate":
        """Return the estimate from independent samples (S, N, …), S ≥ 2."""
        samples = samples.double()
        return cls(samples.mean(0), samples.std(0) / math.sqrt(len(samples)))

    @classmethod
    def cat(cls, estimates: Sequence["Estimate"]) -> "Estimate":
        """Join the estimates of several blocks of images."""
        return cls(*(torch.cat([getattr(e, name) for e in estimates]) for name in ("values", "errors")))

    @property
    def mean(self) -> torch.Tensor:
        """The mean over images, (…)."""
        return self.values.mean(0)

    @property
    def error(self) -> torch.Tensor:
        """The standard error of `mean`, (…); images have independent samples."""
        return self.errors.square().sum(0).sqrt() / len(self.errors)

    def __repr__(self):
        if self.values.ndim > 1:
            return f"Estimate({len(self.values)} images × {'×'.join(map(str, self.values.shape[1:]))})"
        return f"Estimate({self.mean:.4f} ± {self.error:.4f} over {len(self.values)} images)"
