"""A sweep's work: checked, estimated, done, and shown as one table and one picture."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from tempfile import TemporaryFile

from vampyro import plots
from vampyro.runs.device import find_device, find_engine, find_gemm
from vampyro.runs.errors import INPUT_ERRORS
from vampyro.runs.folder import Folder
from vampyro.runs.scoring import load_images
from vampyro.runs.training_run import assembled
from vampyro.sweeps import table
from vampyro.sweeps.durations import seconds, spoken
from vampyro.sweeps.grid import SweepError, numeric
from vampyro.sweeps.runner import Run, finished, read_remarks, run_all, unmeasured
from vampyro.sweeps.table import differences

CURVES = ("log_likelihood", "elbo", "frechet")  # the metrics that are drawn, where they are there


@dataclass(frozen=True)
class Campaign:
    """Cells times seeds, in folders below `out`, and what is to be measured of each."""

    cells: list
    seeds: range
    out: Path
    measures: tuple = ()

    @cached_property
    def runs(self):
        return [Run(c, s, c.folder(self.out, s), self.measures) for s, c in product(self.seeds, self.cells)]

    @property
    def folders(self):
        return [[cell.folder(self.out, seed) for seed in self.seeds] for cell in self.cells]


def refused(cells):
    """[(cell, why it cannot be run)]: its data loaded and its programs assembled once, before any run begins."""
    loaded, errors = {}, []
    for cell in cells:
        config = cell.config
        key = tuple(config[name] for name in ("dataset", "data_dir", "binarize", "likelihood", "noise", "condition"))
        try:
            if isinstance(loaded.get(key), Exception):
                raise loaded[key]
            images = loaded[key] = loaded.get(key) or load_images(config)
            _, _, objective = assembled(config, images)
            device = find_device(config["device"])
            find_engine(config, device, len(images.train), objective)
            find_gemm(config, device)
        except INPUT_ERRORS as error:
            loaded.setdefault(key, error)
            errors.append((cell, str(error)))
    return errors


def plan(work, jobs=1, threads=None):
    """Prints the runs that are still to be done, and about how long they take here."""
    todo = [run for run in work.runs if not finished(run)]
    for run in todo:
        print(f"{run.name}   → {run.folder}")
    print(estimate([run.cell for run in todo], len(work.runs), jobs, threads))


def estimate(cells, total, jobs=1, threads=None):
    """A sentence: how many runs there are, and about how long those of `cells` take."""
    try:
        each = [seconds(cell.config, threads) for cell in cells]
    except INPUT_ERRORS as error:
        raise SweepError(str(error)) from None
    if not cells:
        return f"all {total} runs are finished"
    time = max(sum(each) / jobs, max(each))
    at_a_time = f" {jobs} at a time" if jobs > 1 else ""
    return (
        f"{len(cells)} of {total} runs to do{at_a_time}: {spoken(time)} on this machine, {spoken(max(each))} the "
        "longest, if all their epochs are trained and step by step; measures come besides"
    )


def ready(work, spare=False):
    """(runs that are to be done, a line on each cell that cannot be).

    Args:
        spare: leave such cells out (their data cannot be had, say), and do the others.

    Raises:
        SweepError: where a folder holds another run, and, unless `spare`, where a cell cannot be run; where nothing
            can be written.
    """
    todo = [run for run in work.runs if not finished(run)]
    bad = refused(list({run.cell.name: run.cell for run in todo}.values()))
    if bad and not spare:
        raise SweepError("; ".join(f"{cell.name}: {why}" for cell, why in bad))
    names = {cell.name for cell, _ in bad}
    writable(work.out)
    return [run for run in todo if run.cell.name not in names], [f"{cell.name}: {why}" for cell, why in bad]


def writable(out):
    """Makes the folder.

    Raises:
        SweepError: where no file can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
    except OSError as error:
        raise SweepError(f"cannot write to --out {out}: {error.strerror}") from None


def run(todo, failed, jobs=1, threads=None, dask=None):
    """Does what is to be done, a line for each run that ends.

    Args:
        failed: lines on what cannot be done; what fails now is added.

    Returns:
        the lines on what went wrong as one text, or None.
    """
    done = []

    def tell(outcome):
        done.append(outcome)
        if outcome.error:
            failed.append(f"{outcome.run.name}: {outcome.error}")
            said = f"failed: {outcome.error}"
        else:
            figures, errors, _ = table.figures_of(outcome.run.folder)
            error = "" if errors["log_likelihood"] is None else f" ± {errors['log_likelihood']:.2f}"  # over images
            said = f"log p̂ {figures['log_likelihood']:.2f}{error}, ELBO {figures['elbo']:.2f}"
        print(f"[{len(done)}/{len(todo)}] {outcome.run.name}: {said}   {outcome.seconds:.0f} s")
        for measure, why in unmeasured(outcome.run).items():
            print(f"        warning: {measure} not measured: {why}")
        for remark in read_remarks(outcome.run):
            print(f"        remark: {remark}")

    run_all(todo, tell, jobs, threads, dask)
    return "error: " + "\n       ".join([f"{len(failed)} not finished", *failed]) if failed else None


def report(work):
    """Prints the table of what is finished; writes table.md, table.csv and pictures into the sweep's folder."""
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


def beside(work):
    """A column of paired differences between runs that were scored on the same images."""
    groups = differences(work.cells, work.folders)
    which = "first row" if len(groups) == 1 else "first row of the same images"
    found = {name: text for group in groups for name, text in group.items()}
    return {"log_likelihood": {f"less the {which} (paired)": found}} if found else {}


def what_bars_are(rows):
    most = max(row.seeds for row in rows)
    return f"bars: standard deviation over {most} seeds" if most > 1 else "bars: standard error over test images"


def picture(rows, metrics=CURVES):
    """Curves where one axis is numeric, a line for each value of the others; else bars."""
    metrics = [name for name in metrics if any(name in row.figures for row in rows)]
    axis = x_axis(rows)
    if axis is None:
        panels = {table.title(m, rows): {"": table.heights(rows, m)} for m in metrics}
        return plots.error_bars(panels, " / ".join(rows[0].labels), what_bars_are(rows))
    labels = list(dict.fromkeys(row.labels[axis] for row in rows))
    places = dict(zip(labels, numeric(labels)))
    panels = {}
    for metric in metrics:
        lines = panels[table.title(metric, rows)] = {}
        for row in rows:
            if (figure := row.figures.get(metric)) is not None:
                name = " / ".join(label for other, label in row.labels.items() if other != axis)
                lines.setdefault(name, []).append((places[row.labels[axis]], figure.mean, figure.bar))
    return plots.error_curves(panels, axis, what_bars_are(rows))


def x_axis(rows):
    """The axis with the most values, of those whose values are numbers; None where there is none."""
    values = {axis: list(dict.fromkeys(row.labels[axis] for row in rows)) for axis in rows[0].labels}
    numbers = [axis for axis, labels in values.items() if numeric(labels)]
    return max(numbers, key=lambda axis: len(values[axis]), default=None)


def rate_distortion(rows):
    """The curve of a sweep over β alone, or None: on test images where they were measured, else on validation's."""
    if list(rows[0].labels) != ["beta"] or len(rows) < 2:
        return None
    pairs = ("rate", "distortion"), ("kl", "reconstruction")
    names = next((pair for pair in pairs if all(set(pair) <= set(row.figures) for row in rows)), None)
    if names is None:  # auto-encoders have no rate: their codes are points
        return None
    rates, distortions = ([row.figures[name].mean for row in rows] for name in names)
    if names[1] == "reconstruction":  # which is the distortion's negative
        distortions = [-value for value in distortions]
    points = list(zip((float(row.labels["beta"]) for row in rows), rates, distortions))
    where = "test" if names[0] == "rate" else "validation"
    return plots.rate_distortion_curve(points, f"rate and distortion, {where} images")
