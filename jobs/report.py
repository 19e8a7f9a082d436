"""report.html: what was measured of a run, in one file that needs nothing else."""

import base64
import json
import platform
from pathlib import Path

import jinja2
import pyro
import torch

from jobs.sections import SECTIONS

TEMPLATE = Path(__file__).with_name("report.html.jinja")
SHOWN = ("dataset", "model", "net", "hidden", "latent", "likelihood", "prior", "posterior", "flow", "condition")
SHOWN += ("objective", "beta", "seed")
OWN = ("samples.png", "reconstructions.png", "analogies.png", "pseudo_inputs.png", "film.png", "curves.png")


def write_report(folder, name, place, config, command):
    """Into the run's folder, under that name: the measures that lie in `place`, then the run's own pictures."""
    sections = []
    for section, what in SECTIONS.items():
        path = place / f"{section}.json"
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            pictures = [(picture, inline(place / picture)) for picture in content["pictures"]]
            rows, how = flat(content["figures"]), flat(content["settings"])
            sections.append(content | {"name": section, "what": what, "pictures": pictures, "rows": rows, "how": how})
    # Under another prior than the run's own there are other samples.
    found = {file: next(filter(Path.exists, (place / file, folder.path / file)), None) for file in OWN}
    own = [(file, inline(path)) for file, path in found.items() if path]
    settings = {key.replace("_", " "): shown(config[key]) for key in SHOWN if key in config}
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


def inline(path):
    """A picture as a data URL."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def shown(value):
    """A setting or a figure, with as many digits as one reads."""
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 100 else f"{value:.4g}"
    return "–" if value is None else str(value)


def flat(figures, prefix=""):
    """[(name, value)] of nested figures; lists, which are for programs, left out."""
    rows = []
    for name, value in figures.items():
        name = prefix + str(name).replace("_", " ")
        if isinstance(value, dict):
            rows += flat(value, f"{name} · ")
        elif not isinstance(value, list):
            rows.append((name, shown(value)))
    return rows
