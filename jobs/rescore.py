"""A finished run, measured: its likelihood again, and whatever else `jobs.sections` knows."""

import importlib
import json
import time

from assemble import aggregate, load
from data import DataError
from jobs.folder import Folder
from jobs.machine import find_device
from jobs.report import write_report
from jobs.scoring import load_images
from jobs.sections.subject import Subject


def rescore(run, measures, command, prior="own", device="auto", **given):
    """Prints what each measure says, and writes it: measures/NAME.json with pictures, results.json, report.html.

    A measure that stands there with the same settings is not made again.

    Args:
        run: the folder.
        measures: names of `jobs.sections.SECTIONS`.
        command: as it was typed, for the report.
        prior: `own` or `aggregate`.
        given: samples, seed, data_dir in place of the run's; split, count, draw_seed, other.

    Raises:
        one of `jobs.training.INPUT_ERRORS`.
    """
    folder, config = Folder.open(run, settings=["dataset", "likelihood", "shape", "sha256"])
    device = find_device(device)
    images = load_images(config | given)
    if images.sha256 != config["sha256"]:
        raise DataError(f"{images.name} has changed since {run} was trained on it")
    model, guide = load(run)
    if prior == "aggregate":
        model.prior = aggregate(guide, images.images("train"))
    model, guide, images = model.to(device), guide.to(device), images.to(device)
    own = {"samples": config["samples"], "seed": config["seed"], "count": config["test_images"]}
    settings = {name: value for name, value in (own | given).items() if name != "data_dir"}
    place = Folder(folder.path / ("measures" if prior == "own" else f"measures-{prior}"))
    subject = Subject(model, guide, images, config, settings, place)
    print(f"{images}\n{model.prior} · flow {config['flow']} · {device}")
    for name in measures:
        measured = _measured(subject, name)
        print(f"\n{name}\n" + "\n".join(measured["notes"]))
    collect(folder, place, prior)
    report = "report.html" if prior == "own" else f"report-{prior}.html"
    write_report(folder, report, place.path, config, command)
    print(f"\nreport              {folder.path / report}")


def _measured(subject, name):
    """What lies there, or what is measured now, written."""
    folder, path = subject.folder, subject.folder.path / f"{name}.json"
    try:
        before = json.loads(path.read_text())
        if before["settings"] == subject.settings:
            return before
    except (OSError, ValueError, LookupError, TypeError):
        pass  # none, or none that can be read
    began = time.perf_counter()
    measure = importlib.import_module(f"jobs.sections.{name}").measure
    measured = measure(subject)
    for picture, figure in measured.pictures.items():
        folder.save_figure(f"{name}-{picture}.png", figure)
    content = {
        "figures": measured.figures,
        "notes": measured.notes,
        "tables": measured.tables,
        "pictures": [f"{name}-{picture}.png" for picture in measured.pictures],
        "settings": subject.settings,
        "seconds": time.perf_counter() - began,
    }
    folder.write(path.name, content)
    return content


def collect(folder, place, prior):
    """Every measure's figures into results.json, under "measures"."""
    path = folder.path / "results.json"
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError):
        results = {}
    figures = {file.stem: json.loads(file.read_text())["figures"] for file in sorted(place.path.glob("*.json"))}
    results.setdefault("measures", {})[prior] = figures
    folder.write("results.json", results)
