"""What a measure of a finished run is made of. Imports no torch, so that `run.py score --help` is instant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    import torch

    from vampyro.data import ImageSet
    from vampyro.runs.config import RunConfig
    from vampyro.runs.folder import Folder
    from vampyro.training.distributed import Processes


@dataclass(frozen=True)
class Column:
    """A metric of a run as a column of a sweep's table.

    Attributes:
        name: of the metric.
        title: for tables and axes.
        digits: after the decimal point.
        value: the metric from the metrics of a section, None or a LookupError where there is none.
        drawn: whether the picture of a sweep shows it.
    """

    name: str
    title: str
    digits: int
    value: Callable[[dict[str, Any]], float | None] = lambda metrics: None
    drawn: bool = False

    def read(self, metrics: dict[str, Any]) -> float | None:
        """Return the value among the metrics of a section; None where it was not measured."""
        try:
            return self.value(metrics)
        except LookupError:
            return None


@dataclass(frozen=True)
class Section:
    """The registry row of a measure: `SECTION` in the module of its name, which also has `measure(subject)`.

    Attributes:
        position: in the report and among the measures of `run.py score`.
        help: one line for --help and the report.
        settings: names in `Subject.settings` that it depends on, beside those that all measures depend on.
        columns: of a sweep's table.
        distributed: whether all processes take part; else only the first one measures.
        gradients: whether it is measured with torch recording gradients.
    """

    position: int
    help: str
    settings: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    distributed: bool = False
    gradients: bool = True


@dataclass(frozen=True)
class Measured:
    """The results of a measure.

    Attributes:
        metrics: numbers under stable names, as JSON.
        pictures: name → Figure.
        notes: sentences for a person.
        tables: (title, header, rows).
    """

    metrics: dict[str, Any]
    pictures: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tables: list[tuple] = field(default_factory=list)


@dataclass(frozen=True)
class Subject:
    """Programs on a device, the images they were trained on, and how to measure.

    Attributes:
        model, guide: of the run's best epoch.
        images: with labels too, where the model is conditional.
        config: the run's.
        settings: samples, split, count (None for all images), seed, draw_seed, temperatures, other (a data set's name
            or None), checkpoint (a digest); of a guide of points what takes its place, `proposal`.
        folder: for what should outlive an interruption.
        processes: the processes that share the scoring.
        other: that other data set.
        prior: the one that the model is measured under, `own` or a spec.
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
        """Indices, among the split's images, of those that are measured."""
        from vampyro.runs.scoring import drawn

        total = len(getattr(self.images, self.settings["split"]))
        return drawn(total, self.settings["count"], self.settings["draw_seed"])

    @cached_property
    def scoring_guide(self) -> Callable:
        """The run's guide, or its `scoring_guide` where its latents are points."""
        from vampyro.likelihood import scoring_guide

        return scoring_guide(self.model, self.guide, self.images.images("valid"), seed=self.config["seed"])

    @cached_property
    def x(self) -> torch.Tensor:
        """The images that are measured."""
        return self.images.images(self.settings["split"])[self.index]

    @cached_property
    def labels(self) -> torch.Tensor | None:
        """Their labels, int64, or None where the data have none."""
        labels = self.images.labels.get(self.settings["split"])
        return None if labels is None else labels[self.index]

    def few(self, count: int) -> Subject:
        """Return the same with at most `count` images, drawn too, and the same ones for every measure."""
        count = min(count, self.settings["count"] or count)
        return replace(self, settings=self.settings | {"count": count})
