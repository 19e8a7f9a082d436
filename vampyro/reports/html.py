"""report.html: the measures of a run in one file, pictures included."""

import base64
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pyro
import torch

from vampyro.reports.sections import SECTIONS
from vampyro.runs.folder import Folder

TEMPLATE = Path(__file__).with_name("report.html.jinja")
SETTINGS = "dataset model net hidden latent likelihood prior posterior flow condition objective beta seed".split()
MEASURE = {"figures": dict, "settings": dict, "notes": list, "tables": list, "pictures": list, "seconds": float}
PICTURES = ("samples.png", "reconstructions.png", "analogies.png", "pseudo_inputs.png", "film.png", "curves.png")


def write_report(folder: Folder, name: str, place: Path, config: Mapping[str, Any], command: str) -> None:
    """Write a page into the run's folder, under that name: the measures in `place`, then its pictures."""
    sections = [
        content
        | {
            "name": section,
            "what": row.help,
            "pictures": encode_images(place, content["pictures"]),
            "rows": flat(content["figures"]),
            "how": flat(content["settings"]),
        }
        for section, row in SECTIONS.items()
        if (content := read_measure(place / f"{section}.json")) is not None
    ]
    # Under another prior than the run's own there are other samples, which come first.
    own = [
        picture for file in PICTURES for picture in (encode_images(place, [file]) or encode_images(folder.path, [file]))
    ]
    settings = {key.replace("_", " "): shown(config[key]) for key in SETTINGS}
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    folder.write_text(
        name,
        page.render(
            title=f"{config['prior']} · {config['flow']} · {config['model']} on {config['dataset']}",
            settings=settings,
            command=command,
            sections=sections,
            own=own,
            versions=f"Python {platform.python_version()}, torch {torch.__version__}, Pyro {pyro.__version__}",
        ),
    )


def read_measure(path: Path) -> dict[str, Any] | None:
    """Return the contents of a measure's file, or None where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["settings"]["checkpoint"], [(*header, *rows) for _, header, rows in content["tables"]]
        "".join(content["notes"])  # of text
        return content if all(isinstance(content[name], kind) for name, kind in MEASURE.items()) else None
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None


def encode_images(folder: Path, names: Iterable[str]) -> list[tuple[str, str]]:
    """Return [(name, data URL)] of those files that are PNGs in the folder itself."""
    found = []
    for name in names:
        path = folder / str(name)
        if path.parent == folder and path.is_file() and (raw := path.read_bytes()).startswith(b"\x89PNG"):
            found.append((name, "data:image/png;base64," + base64.b64encode(raw).decode()))
    return found


def shown(value: object) -> str:
    """Return a setting or a number as text of a few digits."""
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 100 else f"{value:.4g}"
    return "–" if value is None else str(value)


def flat(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return [(name, value)] of nested figures without lists, which are for programs."""
    rows: list[tuple[str, str]] = []
    for name, value in figures.items():
        name = prefix + str(name).replace("_", " ")
        if isinstance(value, dict):
            rows += flat(value, f"{name} · ")
        elif not isinstance(value, list):
            rows.append((name, shown(value)))
    return rows
