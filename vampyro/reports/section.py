"""The registry row of a measure. Imports no torch, so that `run.py score --help` is instant."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """A metric of a run as a column of a sweep's table.

    Attributes:
        title: for tables and axes.
        digits: after the decimal point.
        value: the metric from the metrics of a section; None or a LookupError where there is none.
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
    """The registry row of a measure, whose module of the same name has `measure(subject)`.

    Attributes:
        help: one line for --help and the report.
        settings: names in `Subject.settings` that this measure depends on, besides those that all depend on.
        columns: of a sweep's table.
        distributed: whether all processes take part; else only the first one measures.
        gradients: whether torch records gradients meanwhile.
    """

    help: str
    settings: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    distributed: bool = False
    gradients: bool = True
