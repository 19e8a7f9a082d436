"""The metrics of many runs as one table, and paired differences between runs."""

import csv
import io
import json
import math
from dataclasses import dataclass
from statistics import mean, stdev

import numpy

# name → (what it is, for a table and an axis; digits)
METRICS = {
    "log_likelihood": ("log p̂(x), nats", 2),
    "elbo": ("ELBO, nats", 2),
    "reconstruction": ("reconstruction, nats (validation)", 2),
    "kl": ("KL, nats (validation)", 2),
    "rate": ("rate, nats", 2),
    "distortion": ("distortion, nats", 2),
    "active_units": ("active units", 1),
    "frechet": ("Fréchet distance (classifier)", 2),
    "total_variation": ("classes' distance from uniform", 3),
    "entropy": ("entropy of classes, nats", 3),
    "reconstruction_accuracy": ("accuracy on reconstructions", 3),
    "effective": ("effective components", 1),
    "auroc": ("AUROC against noise", 3),
    "difference": ("annealed less importance sampling, nats", 3),
    "minutes": ("minutes of training", 1),
}


@dataclass(frozen=True)
class Figure:
    """A metric over the seeds of a cell: mean, deviation over seeds (None of one seed), error over images (or None)."""

    mean: float
    sd: float | None
    error: float | None
    seeds: int

    @property
    def standard_error(self):
        """Of the mean over seeds: sd/√n; of a single seed None."""
        return None if self.sd is None else self.sd / math.sqrt(self.seeds)

    @property
    def bar(self):
        """What an error bar shows: the deviation over seeds, of one seed the error over images, or None."""
        return self.error if self.sd is None else self.sd

    def text(self, digits):
        return f"{self.mean:.{digits}f}" + ("" if self.sd is None else f" ± {self.sd:.{digits}f}")


@dataclass(frozen=True)
class Row:
    """A cell: {axis: label}, how many of its seeds are finished, {metric: Figure}, and what its likelihood is of."""

    labels: dict
    seeds: int
    figures: dict
    quantity: str = "log p(x)"

    @property
    def name(self):
        return " / ".join(self.labels.values())


def figures_of(folder):
    """{metric: value}, {metric: its error over images} and what the likelihood is of, `log p(x)` or `log p(x | y)`.

    None where the run is not finished, or where one of its files cannot be read.

    Reconstruction and KL are those of the best epoch's validation; all others of the test images.
    """
    try:
        return _figures_of(folder)
    except Exception:  # a file may be missing, cut off or hold anything: zipfile and numpy have a dozen errors for it
        return None


def _figures_of(folder):
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    test, fit = results["test"], results["fit"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    with numpy.load(folder / "scores.npz") as scores:
        errors = {name: over_images(scores[name]) for name in ("log_likelihood", "elbo")}
    best = next((line for line in lines if line["epoch"] == fit["best_epoch"]), {})
    own = results.get("measures", {}).get("own", {})
    elbo, samples = own.get("elbo", {}), own.get("samples", {})
    found = {
        **{name: math.nan if test[name] is None else test[name] for name in ("log_likelihood", "elbo")},
        "reconstruction": best.get("reconstruction"),
        "kl": best.get("kl"),
        "rate": elbo.get("rate"),
        "distortion": elbo.get("distortion"),
        "active_units": sum(elbo["active_units"].values()) if elbo.get("active_units") else None,
        "frechet": samples.get("classifier_frechet_distance"),
        "total_variation": samples.get("class_total_variation"),
        "entropy": samples.get("class_entropy"),
        "reconstruction_accuracy": samples.get("reconstruction_accuracy"),
        "effective": own.get("prior", {}).get("effective"),
        "auroc": own.get("outliers", {}).get("noise", {}).get("auroc"),
        "difference": own.get("ais", {}).get("difference"),
        "minutes": fit["seconds"] / 60,
    }
    figures = {name: float(value) for name, value in found.items() if value is not None}
    return figures, errors, test.get("quantity", "log p(x)")


def over_images(values):
    """The standard error of the mean over images, or None of a single one.

    >>> over_images(numpy.array([1.0, 2.0, 3.0])), over_images(numpy.array([1.0]))
    (0.5773502691896258, None)
    """
    return (values.std(ddof=1) / math.sqrt(len(values))).item() if len(values) > 1 else None


def rows(cells, folders):
    """A `Row` for each cell that has a finished run.

    Args:
        cells: `Cell`s.
        folders: for each, the folders of its seeds.

    >>> rows([], [])
    []
    """
    made = []
    for cell, places in zip(cells, folders, strict=True):
        found = [figures for figures in map(figures_of, places) if figures is not None]
        if found:
            names = [name for name in METRICS if all(name in figures for figures, *_ in found)]
            figures = {
                name: figure([values[name] for values, *_ in found], [errors.get(name) for _, errors, _ in found])
                for name in names
            }
            made.append(Row(cell.labels, len(found), figures, found[0][-1]))
    return made


def figure(values, errors=()):
    """The `Figure` of a metric's values, one for each seed.

    >>> figure([1.0, 2.0, 3.0], [0.3, 0.3, 0.3])
    Figure(mean=2.0, sd=1.0, error=0.3, seeds=3)
    >>> figure([1.0, math.nan], [0.3, None])  # of what is no number there is no deviation
    Figure(mean=nan, sd=None, error=0.3, seeds=2)
    """
    known = [error for error in errors if error is not None]
    sd = stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
    return Figure(mean(values), sd, mean(known) if known else None, len(values))


def heights(rows, metric):
    """{row's name: (mean, what its error bar shows)} of the rows that have the metric."""
    return {row.name: (found.mean, found.bar) for row in rows if (found := row.figures.get(metric))}


def title(metric, rows):
    """What a metric is, of these rows: a conditional run's likelihood is that of the image given its label.

    >>> title("log_likelihood", [Row({}, 1, {}), Row({}, 1, {}, "log p(x | y)")])
    'log p̂(x) or log p̂(x | y), nats'
    """
    kinds = dict.fromkeys(row.quantity.replace("p(", "p̂(") for row in rows)
    return METRICS[metric][0].replace("log p̂(x)", " or ".join(kinds))


def shown(rows):
    """The metrics that any row has, in order."""
    return [name for name in METRICS if any(name in row.figures for row in rows)]


def markdown(rows, metrics=None, beside=None):
    """The table for a person: mean ± deviation over seeds; log p̂ with its error over images besides.

    Args:
        rows: `Row`s.
        metrics: names, or None for all there are.
        beside: {metric: {title: {row's name: text}}}, further columns to the right of a metric's.
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
            figure = row.figures.get(name)
            line.append("–" if figure is None else figure.text(METRICS[name][1]))
            if name == "log_likelihood":
                line.append("–" if figure is None or figure.error is None else f"{figure.error:.2f}")
            line += [column.get(row.name, "–") for column in beside.get(name, {}).values()]
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_csv(rows):
    """The table for programs: of every metric the mean, the deviation over seeds, the standard error of the mean over
    seeds, and of log p̂ and the ELBO that over images."""
    metrics, text = shown(rows), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = [(name, part) for name in metrics for part in ("mean", "sd", "standard_error", "error")]
    parts = [(name, part) for name, part in parts if part != "error" or name in ("log_likelihood", "elbo")]
    titles = {"mean": "", "sd": "_sd", "standard_error": "_se_seeds", "error": "_se_images"}
    writer.writerow([*(rows[0].labels if rows else ()), "seeds", *(name + titles[part] for name, part in parts)])
    for row in rows:
        values = [getattr(row.figures.get(name), part, None) for name, part in parts]
        writer.writerow([*row.labels.values(), row.seeds, *("" if v is None else repr(v) for v in values)])
    return text.getvalue()


COMMON = ("dataset", "binarize", "likelihood", "sha256")  # what two runs' log-likelihoods have to share to be compared


def differences(cells, folders):
    """{cell's name: "+0.32 ± 0.05"}: mean log p̂ of a cell less that of the first, over images and seeds.

    Its error is over images, which are hard for one model where they are hard for all, so that of one seed it is much
    smaller than either row's; and over seeds, where there are several.

    Args:
        cells: `Cell`s.
        folders: for each, the folders of its seeds.

    Returns:
        such a dict for each set of images (and for log p(x) and log p(x | y) of the same) that two cells or more were
        scored on; a cell whose seeds were not all scored on the same is in none.
    """
    found = {}
    for cell, places in zip(cells, folders, strict=True):
        scores = {}
        for place in places:
            try:
                config = json.loads((place / "config.json").read_text(encoding="utf-8"))
                results = json.loads((place / "results.json").read_text(encoding="utf-8"))
                quantity = results["test"].get("quantity", "log p(x)")
                with numpy.load(place / "scores.npz") as file:
                    index, values = file["index"], file["log_likelihood"]
                common = json.dumps([[config.get(name) for name in COMMON], quantity, index.tolist()])
            except Exception:  # as `table.figures_of`
                continue
            scores.setdefault(common, []).append(values)
        if len(scores) == 1:
            ((common, values),) = scores.items()
            found.setdefault(common, {})[cell.label] = numpy.stack(values)
    groups = [group for group in found.values() if len(group) > 1]
    return [{name: against(scores, next(iter(group.values()))) for name, scores in group.items()} for group in groups]


def against(scores, first):
    """Both (seeds, images).

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
