"""The metrics of many runs as one table, and paired differences between runs."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy

from vampyro.reports.section import Column
from vampyro.reports.sections import SECTIONS
from vampyro.runs.results import FolderError, Results
from vampyro.sweeps.grid import Cell

COLUMNS = (
    Column("log_likelihood", "log p̂(x), nats", 2, drawn=True),
    Column("elbo", "ELBO, nats", 2, drawn=True),
    Column("reconstruction", "reconstruction, nats (validation)", 2),
    Column("kl", "KL, nats (validation)", 2),
    *(column for section in SECTIONS.values() for column in section.columns),
    Column("minutes", "minutes of training", 1),
)
METRICS = {column.name: column for column in COLUMNS}


@dataclass(frozen=True)
class Summary:
    """A metric over the seeds of a cell: mean, standard deviation over seeds, mean standard error over images.

    `sd` is None if there is only one seed. `error` is None if no run has a standard error.
    """

    mean: float
    sd: float | None
    error: float | None
    seeds: int

    @property
    def standard_error(self) -> float | None:
        """The standard error of the mean over seeds, sd/√n, or None."""
        return None if self.sd is None else self.sd / math.sqrt(self.seeds)

    @property
    def bar(self) -> float | None:
        """The length of an error bar: sd, or for a single seed the error over images."""
        return self.error if self.sd is None else self.sd

    def text(self, digits: int) -> str:
        """Return mean ± sd."""
        return f"{self.mean:.{digits}f}" + ("" if self.sd is None else f" ± {self.sd:.{digits}f}")


@dataclass(frozen=True)
class Row:
    """A cell: {axis: label}, the number of finished seeds, {metric: Summary}, and the quantity that is estimated."""

    labels: dict[str, str]
    seeds: int
    metrics: dict[str, Summary]
    quantity: str = "log p(x)"

    @property
    def name(self) -> str:
        """The labels, as published metrics name them."""
        return " / ".join(self.labels.values())


@dataclass(frozen=True)
class RunMetrics:
    """{metric: value} of a finished run, {metric: its standard error over images}, and the quantity that is estimated.

    Reconstruction and KL are those of validation in the best epoch. All others are of the test images.
    """

    values: dict[str, float]
    errors: dict[str, float | None]
    quantity: str


def metrics_of(folder: Path) -> RunMetrics | None:
    """Return the metrics of the run in a folder; None where it is not finished or a file is damaged."""
    try:
        results = Results.read(folder)
        test, fit, best, scores = results.test, results.fit, results.best_epoch, results.scores()
    except FolderError:
        return None
    found = {
        **{name: math.nan if test[name] is None else test[name] for name in ("log_likelihood", "elbo")},
        "reconstruction": best.get("reconstruction"),
        "kl": best.get("kl"),
        "minutes": fit["seconds"] / 60,
    }
    measures = results.measures()
    for name, section in SECTIONS.items():
        found |= {column.name: column.read(measures.get(name, {})) for column in section.columns}
    values = {name: float(found[name]) for name in METRICS if found[name] is not None}
    errors = {name: over_images(scores[name]) for name in ("log_likelihood", "elbo")}
    return RunMetrics(values, errors, test.get("quantity", "log p(x)"))


def over_images(values: numpy.ndarray) -> float | None:
    """Return the standard error of the mean over images, or None for a single one.

    >>> over_images(numpy.array([1.0, 2.0, 3.0])), over_images(numpy.array([1.0]))
    (0.5773502691896258, None)
    """
    return (values.std(ddof=1) / math.sqrt(len(values))).item() if len(values) > 1 else None


def rows(cells: Sequence[Cell], folders: Sequence[Sequence[Path]]) -> list[Row]:
    """Return a row for each cell that has a finished run; `folders` are those of each cell's seeds."""
    made = []
    for cell, places in zip(cells, folders, strict=True):
        found = [metrics for metrics in map(metrics_of, places) if metrics is not None]
        if found:
            names = [name for name in METRICS if all(name in run.values for run in found)]
            metrics = {
                name: summarise([r.values[name] for r in found], [r.errors.get(name) for r in found]) for name in names
            }
            made.append(Row(cell.labels, len(found), metrics, found[0].quantity))
    return made


def summarise(values: Sequence[float], errors: Sequence[float | None] = ()) -> Summary:
    """Return the summary of a metric's values, one for each seed.

    >>> summarise([1.0, 2.0, 3.0], [0.3, 0.3, 0.3])
    Summary(mean=2.0, sd=1.0, error=0.3, seeds=3)
    >>> summarise([1.0, math.nan], [0.3, None])  # NaN has no standard deviation
    Summary(mean=nan, sd=None, error=0.3, seeds=2)
    """
    known = [error for error in errors if error is not None]
    sd = stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
    return Summary(mean(values), sd, mean(known) if known else None, len(values))


def heights(rows: Sequence[Row], metric: str) -> dict[str, tuple[float, float | None]]:
    """Return {row's name: (mean, length of its error bar)} of the rows that have the metric."""
    return {row.name: (found.mean, found.bar) for row in rows if (found := row.metrics.get(metric))}


def title(metric: str, rows: Sequence[Row]) -> str:
    """Return the title of a metric; the likelihood of a conditional run is log p̂(x | y).

    >>> title("log_likelihood", [Row({}, 1, {}), Row({}, 1, {}, "log p(x | y)")])
    'log p̂(x) or log p̂(x | y), nats'
    """
    kinds = dict.fromkeys(row.quantity.replace("p(", "p̂(") for row in rows)
    return METRICS[metric].title.replace("log p̂(x)", " or ".join(kinds))


def shown(rows: Sequence[Row]) -> list[str]:
    """Return the metrics that any row has, in order."""
    return [name for name in METRICS if any(name in row.metrics for row in rows)]


def markdown(
    rows: Sequence[Row],
    metrics: Sequence[str] | None = None,
    beside: dict[str, dict[str, dict[str, str]]] | None = None,
) -> str:
    """Return the table in Markdown: mean ± sd over seeds, and for log p̂ also its standard error over images.

    `beside` is {metric: {title: {row's name: text}}}: more columns to the right of a metric's.
    """
    metrics, beside = metrics or shown(rows), beside or {}
    axes = list(rows[0].labels) if rows else []
    several = max((row.seeds for row in rows), default=1) > 1
    header = [*axes, *(["seeds"] if several else [])]
    for name in metrics:
        header.append(title(name, rows) + (" (± sd over seeds)" if several and name == metrics[0] else ""))
        header += ["its s.e. over images"] if name == "log_likelihood" else []
        header += beside.get(name, {})
    lines = [header, ["---"] * len(header)]
    for row in rows:
        line = [*row.labels.values(), *([str(row.seeds)] if several else [])]
        for name in metrics:
            found = row.metrics.get(name)
            line.append("–" if found is None else found.text(METRICS[name].digits))
            if name == "log_likelihood":
                line.append("–" if found is None or found.error is None else f"{found.error:.2f}")
            line += [column.get(row.name, "–") for column in beside.get(name, {}).values()]
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_csv(rows: Sequence[Row]) -> str:
    """Return the table as CSV, with standard errors over seeds, and over images for log p̂ and the ELBO."""
    metrics, text = shown(rows), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = [(name, part) for name in metrics for part in ("mean", "sd", "standard_error", "error")]
    parts = [(name, part) for name, part in parts if part != "error" or name in ("log_likelihood", "elbo")]
    titles = {"mean": "", "sd": "_sd", "standard_error": "_se_seeds", "error": "_se_images"}
    writer.writerow([*(rows[0].labels if rows else ()), "seeds", *(name + titles[part] for name, part in parts)])
    for row in rows:
        values = [getattr(row.metrics.get(name), part, None) for name, part in parts]
        writer.writerow([*row.labels.values(), row.seeds, *("" if v is None else repr(v) for v in values)])
    return text.getvalue()


COMMON = ("dataset", "binarize", "likelihood", "sha256")  # settings that comparable log-likelihoods share


def differences(cells: Sequence[Cell], folders: Sequence[Sequence[Path]]) -> list[dict[str, str]]:
    """Return {cell's label: "+0.32 ± 0.05"}, mean log p̂ of each cell minus that of the first, paired by image.

    The error is over images and, where there are several, over seeds. An image that is hard for one model is hard for
    all, so the error of one seed is much smaller than either row's.

    Returns:
        one such dict for each set of images and quantity, log p(x) or log p(x | y), on which at least two cells were
        scored. A cell whose seeds were scored on different images is left out.
    """
    found: dict[str, dict[str, numpy.ndarray]] = {}
    for cell, places in zip(cells, folders, strict=True):
        scores: dict[str, list[numpy.ndarray]] = {}
        for place in places:
            try:
                results = Results.read(place)
                arrays, quantity = results.scores(), results.test.get("quantity", "log p(x)")
            except FolderError:
                continue
            common = json.dumps([[results.config.get(n) for n in COMMON], quantity, arrays["index"].tolist()])
            scores.setdefault(common, []).append(arrays["log_likelihood"])
        if len(scores) == 1:
            ((common, values),) = scores.items()
            found.setdefault(common, {})[cell.label] = numpy.stack(values)
    groups = [group for group in found.values() if len(group) > 1]
    return [{name: against(scores, next(iter(group.values()))) for name, scores in group.items()} for group in groups]


def against(scores: numpy.ndarray, first: numpy.ndarray) -> str:
    """Return the mean paired difference ± its error; both arguments are (seeds, images).

    >>> one = numpy.array([[1.0, 2.0, 3.0]])
    >>> against(one, 0 * one), against(one, one), against(numpy.array([[1.0, 2], [3, 4]]), numpy.zeros((2, 2)))
    ('+2.00 ± 0.58', '0', '+2.50 ± 1.12')
    """
    apart = scores.mean(0) - first.mean(0)
    if not apart.any():
        return "0"
    variance = apart.var(ddof=1) / len(apart) if len(apart) > 1 else float("nan")
    for seeds in (scores.mean(1), first.mean(1)):
        variance += seeds.var(ddof=1) / len(seeds) if len(seeds) > 1 else 0.0
    return f"{apart.mean():+.2f} ± {variance**0.5:.2f}"
