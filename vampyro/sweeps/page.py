"""The page that `reproduce` writes: our metrics next to the published ones, how they were made, and what differs."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from vampyro import plots
from vampyro.runs import config as flags
from vampyro.runs.folder import Folder
from vampyro.sweeps import table
from vampyro.sweeps.experiments import Recipe
from vampyro.sweeps.sweep import Campaign, beside, picture, what_bars_are


def write(
    recipe: Recipe, work: Campaign, changed: dict[str, Any], only: Sequence[str] | None, paths: tuple[Path, Path]
) -> str | None:
    """Write the page and its picture to `paths`, and table.csv into the sweep's folder; return the table.

    Args:
        changed: settings that replace the recipe's.
        only: texts that chose the cells, or None.

    Returns:
        None where no run is finished.
    """
    rows = table.rows(work.cells, work.folders)
    if not rows:
        return None
    columns = beside(work)
    for source in recipe.published:
        digits = table.METRICS[source.metric].digits
        theirs = {
            cell: table.Summary(value, error, None, 1).text(digits) for cell, (value, error) in source.values.items()
        }
        columns.setdefault(source.metric, {})[source.by] = theirs
    text = table.markdown(rows, [name for name in table.shown(rows) if name != "minutes"], beside=columns)
    page, drawn = paths
    Folder(work.out).write_text("table.csv", table.as_csv(rows))
    Folder(drawn.parent).save_figure(drawn.name, draw_comparison(recipe, rows))
    link = Path(os.path.relpath(drawn, page.parent)).as_posix()
    Folder(page.parent).write_text(page.name, in_full(recipe, work, rows, changed, only, text, link))
    return text


def draw_comparison(recipe: Recipe, rows: list[table.Row]) -> Figure:
    """Draw our bars next to the published ones where most rows have one, else our curves or bars alone."""
    names = {row.name for row in rows}
    covered = [source for source in recipe.published if 2 * len(names & set(source.values)) >= len(names)]
    if not covered:
        return picture(rows)
    panels: dict[str, dict[str, Any]] = {
        table.title(metric, rows): {"ours": table.heights(rows, metric)}
        for metric in dict.fromkeys(source.metric for source in covered)
    }
    for source in covered:
        theirs = {row.name: source.values[row.name] for row in rows if row.name in source.values}
        title = table.title(source.metric, rows) if source.comparable else source.by
        panels.setdefault(title, {})[source.by] = theirs
    return plots.error_bars(panels, " / ".join(rows[0].labels), f"ours, {what_bars_are(rows)}")


def in_full(
    recipe: Recipe,
    work: Campaign,
    rows: list[table.Row],
    changed: dict[str, Any],
    only: Sequence[str] | None,
    text: str,
    link: str,
) -> str:
    """Return the page."""
    command = ["python", "run.py", "reproduce", recipe.name, *flags.words(changed)]
    command += [word for text in only or () for word in ("--only", text)]
    command += ["--seeds", str(len(work.seeds))] if len(work.seeds) != recipe.seeds else []
    command += ["--seed", str(work.seeds.start)] if work.seeds.start else []
    command += ["--measures", ",".join(work.measures)] if work.measures != recipe.measures else []
    own = {name: value for name, value in recipe.base.items() if name not in changed}
    settings = [f"All runs: `{' '.join(flags.words(own))}`."] if own else []
    for axis in recipe.axes:  # whose labels are not the flags themselves
        if any(list(values.items()) != [(axis.name, label)] for label, values in axis.values.items()):
            said = [f"{label} `{' '.join(flags.words(values))}`" for label, values in axis.values.items()]
            settings.append(f"{axis.name}: {', '.join(said)}.")
    differs = []
    if changed:
        in_recipe = {name: f" (in the recipe {recipe.base[name]})" for name in changed if name in recipe.base}
        said = [" ".join(flags.words({name: changed[name]})) + in_recipe.get(name, "") for name in changed]
        differs.append(f"Not the recipe as it stands, but with {', '.join(said)}.")
    if lacking := [cell.label for cell in work.cells if cell.label not in {row.name for row in rows}]:
        differs.append(f"Not run: {', '.join(lacking)}.")
    listed = "\n".join(f"- {sentence}" for sentence in [*differs, *recipe.differs])
    return "\n\n".join(
        [
            f"# {recipe.title}",
            f"Source: {recipe.source}.",
            f"*{recipe.asks}*",
            f"    {shlex.join(command)}",
            *settings,
            text,
            f"![{recipe.title}]({link})",
            "## What differs from the source",
            f"{listed}\n",
        ]
    )
