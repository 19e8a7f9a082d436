"""The runs of a sweep: check them, do them, and show them as one table and one picture."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from statistics import mean
from tempfile import TemporaryFile

from matplotlib.figure import Figure

from vampyro import plots
from vampyro.errors import UserError
from vampyro.runs.device import find_device, find_engine, find_gemm
from vampyro.runs.folder import Folder
from vampyro.runs.scoring import load_images
from vampyro.runs.training_run import assemble_run
from vampyro.sweeps import table
from vampyro.sweeps.grid import Cell, SweepError, duration, numeric
from vampyro.sweeps.runner import Outcome, Run, finished, impossible_measures, read_results, run_all
from vampyro.sweeps.table import METRICS, Row


@dataclass(frozen=True)
class Campaign:
    """Cells times seeds, in folders below `out`, and the measures of each run."""

    cells: list[Cell]
    seeds: range
    out: Path
    measures: tuple[str, ...] = ()

    @cached_property
    def runs(self) -> list[Run]:
        """A run for each cell and seed, the first seed of all cells first."""
        return [Run(c, s, c.folder(self.out, s), self.measures) for s, c in product(self.seeds, self.cells)]

    @property
    def folders(self) -> list[list[Path]]:
        """For each cell the folders of its seeds."""
        return [[cell.folder(self.out, seed) for seed in self.seeds] for cell in self.cells]


def rejected_cells(cells: list[Cell]) -> list[tuple[Cell, str]]:
    """Load the data and assemble the programs of each cell once; return [(cell, why it cannot be run)]."""
    names = ("dataset", "data_dir", "binarize", "likelihood", "noise", "condition")
    groups: dict[tuple, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.config[name] for name in names), []).append(cell)
    errors = []
    for group in groups.values():
        try:
            images = load_images(group[0].config)
        except UserError as error:
            errors += [(cell, str(error)) for cell in group]
            continue
        for cell in group:
            try:
                _, _, objective = assemble_run(cell.config, images)
                device = find_device(cell.config.device)
                find_engine(cell.config, device, len(images.train), objective)
                find_gemm(cell.config, device)
            except UserError as error:
                errors.append((cell, str(error)))
    return errors


def plan(work: Campaign) -> None:
    """Print the runs that are still to be done."""
    todo = [run for run in work.runs if not finished(run)]
    for run in todo:
        print(f"{run.name}   → {run.folder}")
    print(announce(work, todo))


def announce(work: Campaign, todo: list[Run]) -> str:
    """Return a line with the number of runs, and how many are still to be done."""
    total = f"{len(work.runs)} runs in {work.out}"
    return f"{total}, {len(todo)} to do" if todo else f"{total}, all finished"


def ready(work: Campaign, spare: bool = False) -> tuple[list[Run], list[str]]:
    """Return (runs that are to be done, a line on each cell that cannot be run).

    Unless such cells are to be left out (`spare`), they raise a SweepError.
    """
    todo = [run for run in work.runs if not finished(run)]
    bad = rejected_cells(list({run.cell.name: run.cell for run in todo}.values()))
    if bad and not spare:
        raise SweepError("; ".join(f"{cell.name}: {why}" for cell, why in bad))
    names = {cell.name for cell, _ in bad}
    try:
        work.out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=work.out).close()
    except OSError as error:
        raise SweepError(f"cannot write to --out {work.out}: {error.strerror}") from None
    return [run for run in todo if run.cell.name not in names], [f"{cell.name}: {why}" for cell, why in bad]


def run(
    todo: list[Run], failed: list[str], jobs: int = 1, threads: int | None = None, dask: str | None = None
) -> str | None:
    """Do the runs; print a line for each that ends, with an estimate of the time that is left.

    Returns:
        the lines of `failed`, on runs that cannot be done, and a line on each run that fails, as one text; or None.
    """
    done: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        done.append(outcome)
        metrics = table.metrics_of(outcome.run.folder)
        if outcome.error or metrics is None:
            failed.append(f"{outcome.run.name}: {outcome.error}")
            said = f"failed: {outcome.error}"
        else:
            score = table.summarise([metrics.values["log_likelihood"]], [metrics.errors["log_likelihood"]])
            error = "" if score.error is None else f" ± {score.error:.2f}"  # over images
            said = f"log p̂ {score.mean:.2f}{error}, ELBO {metrics.values['elbo']:.2f}"
        print(f"[{len(done)}/{len(todo)}] {outcome.run.name}: {said}   {outcome.seconds:.0f} s{left()}")
        for measure, why in impossible_measures(outcome.run).items():
            print(f"        warning: {measure} not measured: {why}")
        if results := read_results(outcome.run):
            for remark in results.remarks:
                print(f"        remark: {remark}")

    def left() -> str:
        finished = [outcome.seconds for outcome in done if outcome.error is None]
        if not finished or len(done) == len(todo):
            return ""
        rounds = math.ceil((len(todo) - len(done)) / jobs)
        return f", {duration(rounds * mean(finished))} left"

    run_all(todo, tell, jobs, threads, dask)
    return "\n       ".join([f"{len(failed)} not finished", *failed]) if failed else None


def report(work: Campaign) -> None:
    """Print the table of what is finished; write table.md, table.csv and pictures into the sweep's folder."""
    rows = table.rows(work.cells, work.folders)
    if not rows:
        print("nothing is finished: no table")
        return
    folder = Folder(work.out)
    text = table.markdown(rows, beside=beside(work))
    folder.write_text("table.md", text + "\n")
    folder.write_text("table.csv", table.as_csv(rows))
    folder.save_figure("sweep.png", picture(rows))
    pictures = ["sweep.png"]
    if (figure := rate_distortion(rows)) is not None:
        folder.save_figure("rate_distortion.png", figure)
        pictures.append("rate_distortion.png")
    print(f"\n{text}\n\ntable               {work.out / 'table.md'}, {work.out / 'table.csv'}")
    print(f"pictures            {', '.join(str(work.out / name) for name in pictures)}")


def beside(work: Campaign) -> dict[str, dict[str, dict[str, str]]]:
    """Return a column of paired differences between runs that were scored on the same images, next to log p̂."""
    groups = table.differences(work.cells, work.folders)
    which = "first row" if len(groups) == 1 else "first row of the same images"
    found = {name: text for group in groups for name, text in group.items()}
    return {"log_likelihood": {f"less the {which} (paired)": found}} if found else {}


def what_bars_are(rows: list[Row]) -> str:
    """Return the line about error bars below a picture."""
    most = max(row.seeds for row in rows)
    return f"bars: standard deviation over {most} seeds" if most > 1 else "bars: standard error over test images"


def picture(rows: list[Row]) -> Figure:
    """Draw curves over a numeric axis, one for each value of the other axes; or bars where no axis is numeric."""
    metrics = [name for name in table.shown(rows) if METRICS[name].drawn]
    axis = x_axis(rows)
    if axis is None:
        panels = {table.title(m, rows): {"": table.heights(rows, m)} for m in metrics}
        return plots.error_bars(panels, " / ".join(rows[0].labels), what_bars_are(rows))
    labels = list(dict.fromkeys(row.labels[axis] for row in rows))
    places = dict(zip(labels, numeric(labels) or ()))
    curves: dict[str, dict[str, list[tuple]]] = {}
    for metric in metrics:
        lines = curves[table.title(metric, rows)] = {}
        for row in rows:
            if (found := row.metrics.get(metric)) is not None:
                name = " / ".join(label for other, label in row.labels.items() if other != axis)
                lines.setdefault(name, []).append((places[row.labels[axis]], found.mean, found.bar))
    return plots.error_curves(curves, axis, what_bars_are(rows))


def x_axis(rows: list[Row]) -> str | None:
    """Return the numeric axis with the most values, or None."""
    values = {axis: list(dict.fromkeys(row.labels[axis] for row in rows)) for axis in rows[0].labels}
    numbers = [axis for axis, labels in values.items() if numeric(labels)]
    return max(numbers, key=lambda axis: len(values[axis]), default=None)


def rate_distortion(rows: list[Row]) -> Figure | None:
    """Draw the curve of a sweep over β alone, on test images if they were measured, else on validation images."""
    if list(rows[0].labels) != ["beta"] or len(rows) < 2:
        return None
    pairs = ("rate", "distortion"), ("kl", "reconstruction")
    names = next((pair for pair in pairs if all(set(pair) <= set(row.metrics) for row in rows)), None)
    if names is None:  # auto-encoders have no rate, as their codes are points
        return None
    rates, distortions = ([row.metrics[name].mean for row in rows] for name in names)
    if names[1] == "reconstruction":  # which is the distortion's negative
        distortions = [-value for value in distortions]
    points = list(zip((float(row.labels["beta"]) for row in rows), rates, distortions))
    where = "test" if names[0] == "rate" else "validation"
    return plots.rate_distortion_curve(points, f"rate and distortion, {where} images")
