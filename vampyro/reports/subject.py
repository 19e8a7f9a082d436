"""The argument and the result of a measure."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy
import torch

from vampyro.data import ImageSet
from vampyro.likelihood import scoring_guide
from vampyro.runs.config import RunConfig
from vampyro.runs.folder import Folder
from vampyro.runs.scoring import drawn
from vampyro.training.distributed import Processes


@dataclass(frozen=True)
class Measured:
    """The results of a measure.

    Attributes:
        metrics: numbers under stable names, as JSON.
        pictures: {name: Figure}.
        notes: sentences for a reader.
        tables: (title, header, rows).
    """

    metrics: dict[str, Any]
    pictures: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tables: list[tuple] = field(default_factory=list)


@dataclass(frozen=True)
class Subject:
    """The programs of a run's best epoch on a device, the images they were trained on, and how to measure.

    Attributes:
        images: with labels where the model is conditional.
        settings: samples, split, count (None for all images), seed, draw_seed, temperatures, other (the name of a data
            set, or None), checkpoint (a digest), and for a guide of points `proposal`.
        folder: of the measures.
        processes: those that share the scoring.
        other: the other data set.
        prior: the prior under which the model is measured, `own` or a spec.
    """

    model: torch.nn.Module
    guide: torch.nn.Module
    images: ImageSet
    config: RunConfig
    settings: dict[str, Any]
    folder: Folder
    processes: Processes
    other: ImageSet | None = None
    prior: str = "own"

    @cached_property
    def index(self) -> numpy.ndarray:
        """Indices of the measured images among those of the split."""
        total = len(getattr(self.images, self.settings["split"]))
        return drawn(total, self.settings["count"], self.settings["draw_seed"])

    @cached_property
    def scoring_guide(self) -> Callable:
        """The run's guide, or a proposal that takes its place where its latents are points."""
        return scoring_guide(self.model, self.guide, self.images.images("valid"), seed=self.config["seed"])

    @cached_property
    def x(self) -> torch.Tensor:
        """The measured images."""
        return self.images.images(self.settings["split"])[self.index]

    @cached_property
    def labels(self) -> torch.Tensor | None:
        """The labels of the measured images, int64, or None where the data have none."""
        labels = self.images.labels.get(self.settings["split"])
        return None if labels is None else labels[self.index]

    def few(self, count: int) -> "Subject":
        """Return the same with at most `count` images, which are the same ones for every measure."""
        count = min(count, self.settings["count"] or count)
        return replace(self, settings=self.settings | {"count": count})
