"""A run that is measured, and what one measure of it leaves."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from vampyro.likelihood import scoring_guide
from vampyro.runs.scoring import chosen, drawn


@dataclass(frozen=True)
class Measured:
    """What a measure found.

    Attributes:
        figures: numbers under stable names, as JSON.
        pictures: name → Figure.
        notes: sentences for a person.
        tables: (title, header, rows).
    """

    figures: dict
    pictures: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    tables: list = field(default_factory=list)


@dataclass(frozen=True)
class Subject:
    """Programs on a device, the images they were trained on, and how to measure.

    Attributes:
        model, guide: of the run's best epoch.
        images: an `ImageSet`; one that gives labels too, where the model is conditional.
        config: the run's.
        settings: samples, split, count (None for all images), seed, draw_seed, temperatures, other (a data set's name
            or None), checkpoint (a digest); of a guide of points what takes its place, `proposal`.
        folder: a `Folder`, for what should outlive an interruption.
        processes: who shares the scoring.
        other: that other data set, an `ImageSet` or None.
        prior: the one that the model is measured under, `own` or a spec.
    """

    model: torch.nn.Module
    guide: torch.nn.Module
    images: object
    config: dict
    settings: dict
    folder: object
    processes: object
    other: object = None
    prior: str = "own"

    @cached_property
    def index(self):
        """Of the split's images, those that are measured."""
        total = len(getattr(self.images, self.settings["split"]))
        return drawn(total, self.settings["count"], self.settings["draw_seed"])

    @cached_property
    def scoring_guide(self):
        """The run's guide, or where its latents are points what importance weights are made with: `scoring_guide`."""
        return scoring_guide(self.model, self.guide, self.images.images("valid"), seed=self.config["seed"])

    @cached_property
    def x(self):
        return chosen(self.images.images(self.settings["split"]), self.index)

    @cached_property
    def labels(self):
        """int64, or None where the data have none."""
        labels = self.images.labels.get(self.settings["split"])
        return None if labels is None else chosen(labels, self.index)

    def few(self, count):
        """The same with so many of the images at most: drawn too, and the same ones for every measure."""
        count = min(count, self.settings["count"] or count)
        return replace(self, settings=self.settings | {"count": count})
