"""Measure a finished run: its likelihood again, and the other measures of `vampyro.reports.sections`."""

import importlib
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch

from vampyro.errors import CapacityError
from vampyro.memory import memory_for
from vampyro.programs.layout import points_of
from vampyro.programs.randomness import seeded
from vampyro.reports.html import read_measure, write_report
from vampyro.reports.sections import SECTIONS
from vampyro.reports.subject import Measured, Subject
from vampyro.runs.device import check_samples, find_device, join_processes
from vampyro.runs.folder import Folder, Reader
from vampyro.runs.results import FolderError, read_content
from vampyro.runs.run_plots import sample_grid
from vampyro.runs.scoring import load_other, load_trained, quantity
from vampyro.training.distributed import ProcessError

SHARED_SETTINGS = ("split", "count", "draw_seed", "seed", "checkpoint")  # that every measure depends on
POINTS = "The guide's latents are points: densities here are those of a Normal proposal in their place."


def rescore(
    run: str, measures: Sequence[str], command: str, prior: str = "own", device: Any = "auto", **given: Any
) -> dict[str, str]:
    """Print the results of each measure, and write them: measures/NAME.json with pictures, results.json, report.html.

    A measure that is there with the same settings is not made again.

    Args:
        command: as it was typed, for the report.
        prior: `own`, `aggregate` or `gmm:K`.
        given: samples, seed and data_dir in place of the run's; split, count, draw_seed, temperatures and other.

    Returns:
        {name: why} of the measures that were not possible; results.json has that too, under "not measured".
    """
    device = find_device(device)
    processes = join_processes(device)
    folder, config, checkpoint, images, model, guide = load_trained(run, prior, given.get("data_dir"))
    with memory_for(f"moving the run to {device}", "--dataset", "--hidden"):
        model, guide, images = model.to(device), guide.to(device), images.to(device)
    if len(set(processes.gather(checkpoint))) > 1:
        raise ProcessError(f"{folder.path / 'checkpoint.pt'} was replaced while processes read it: start again")
    data_dir = given.pop("data_dir", config["data_dir"])
    other = load_other(given["other"], data_dir, images) if given.get("other") else None
    own = {"samples": config["samples"], "seed": config["seed"], "count": config["test_images"]}
    settings = own | given | {"checkpoint": checkpoint}
    if any("samples" in SECTIONS[name].settings for name in measures):
        check_samples(model, images.images("test"), settings["samples"])
    if points_of(guide, images.images("test")[:1]):
        settings["proposal"] = "Normal, fitted to the validation images"
    suffix = "" if prior == "own" else f"-{prior.replace(':', '-')}"
    place = (Folder if processes.leads else Reader)(folder.path / f"measures{suffix}")
    subject = Subject(model, guide, images, config | {"data_dir": data_dir}, settings, place, processes, other, prior)
    failed = {}
    with redirect_stdout(sys.stdout if processes.leads else StringIO()):
        print(f"{images}\n{model.prior} · flow {config['flow']} · {device}")
        if config["condition"] == "label":
            print(f"log p(x) below stands for {quantity(config)}, where y is the label of the image")
        for name in (name for name in SECTIONS if name in measures):
            if processes.leads or SECTIONS[name].distributed:
                print(f"\n{name}")
                try:
                    print("\n".join(_measured(subject, name)["notes"]))
                except (CapacityError, ProcessError):
                    raise
                # One measure that is not possible does not cost the others.
                except (ValueError, FloatingPointError) as error:
                    failed[name] = str(error)
                    print(f"not measured: {error}")
    if processes.leads:
        collect(folder, place, prior, checkpoint, failed)
        if prior != "own":
            with seeded(config["seed"], device=device):
                place.save_figure("samples.png", sample_grid(model, images.classes))
        report = f"report{suffix}.html"
        write_report(folder, report, place.path, config, command)
        print(f"\nreport              {folder.path / report}")
    return failed


def _measured(subject: Subject, name: str) -> dict[str, Any]:
    """Return the measure from its file, where that has the same settings; else measure and write it."""
    folder, path = subject.folder, subject.folder.path / f"{name}.json"
    section = SECTIONS[name]
    settings = {key: subject.settings[key] for key in (*SHARED_SETTINGS, *section.settings) if key in subject.settings}
    before = read_measure(path)
    before = subject.processes.broadcast(before) if section.distributed else before
    if before is not None and before["settings"] == settings:
        return before
    began = time.perf_counter()
    measure = importlib.import_module(f"vampyro.reports.sections.{name}").measure
    with memory_for(f"measuring {name}", "--images", "--samples"), torch.set_grad_enabled(section.gradients):
        measured: Measured = measure(subject)
    for picture, figure in measured.pictures.items():
        folder.save_figure(f"{name}-{picture}.png", figure)
    content = {
        "figures": measured.metrics,
        "notes": measured.notes + [POINTS] * ("proposal" in settings and name != "likelihood"),
        "tables": measured.tables,
        "pictures": [f"{name}-{picture}.png" for picture in measured.pictures],
        "settings": settings,
        "seconds": time.perf_counter() - began,
    }
    folder.write(path.name, content)
    return content


def collect(folder: Folder, place: Folder, prior: str, checkpoint: str, failed: dict[str, str]) -> None:
    """Write the figures and settings of every measure into results.json; delete those of an older checkpoint.

    A measure that was not possible, now or before, has a reason instead: {"not measured": …}.
    """
    figures = {}
    for path in sorted(place.path.glob("*.json")):
        content = read_measure(path)
        if content is None or content["settings"]["checkpoint"] != checkpoint:
            path.unlink()
        else:
            figures[path.stem] = content["figures"] | {"settings": content["settings"]}
    for name, why in failed.items():
        figures.setdefault(name, {"not measured": why, "settings": {"checkpoint": checkpoint}})
    before = folder.measures(checkpoint)
    for name, content in before.get(prior, {}).items():
        if "not measured" in content:
            figures.setdefault(name, content)
    try:
        results = read_content(folder.path)
    except FolderError:  # not the results of a run
        results = {}
    folder.write("results.json", results | {"measures": before | {prior: figures}})
