"""Published experiments as data: one TOML file each in recipes/. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vampyro import files
from vampyro.errors import choose, quote
from vampyro.sweeps.grid import Axis, Cell, SweepError, cells

FOLDER = Path(__file__).with_name("recipes")


@dataclass(frozen=True)
class Published:
    """The values of `metric` that a source reports, in our units and signs: {cell's label: (value, error or None)}.

    `by` names the source and its quantity. A quantity that is not `comparable` with ours gets an axis of its own in a
    picture.
    """

    by: str
    metric: str
    values: dict[str, tuple[float, float | None]]
    comparable: bool = True


@dataclass(frozen=True)
class Recipe:
    """An experiment of a source, and the metrics published there.

    Attributes:
        title, source, asks: the experiment, where it was published, and its question.
        differs: sentences on what differs from the source's protocol.
        base: {setting: text} that all runs share.
        hours: approximate time of all its runs on one CPU core.
        when: pairs ({axis: label}, {setting: text}): more settings of the cells with those labels.
        leave_out: labels of cells that the source does not have.
        measures: names of `vampyro.reports.sections.SECTIONS`.
    """

    name: str
    title: str
    source: str
    asks: str
    differs: list[str]
    base: dict[str, str]
    axes: list[Axis]
    hours: float
    when: list[tuple[dict[str, str], dict[str, str]]]
    measures: tuple[str, ...]
    published: list[Published]
    seeds: int = 1
    leave_out: Sequence[dict[str, str]] = ()

    def cells(
        self, given: dict[str, Any] | None = None, only: list[str] | None = None, seeds: int | None = None
    ) -> list[Cell]:
        """Return the cells whose label contains a text of `only`; the `given` settings replace those of the recipe."""
        made = cells(self.axes, self.base | (given or {}), self.when, seeds or self.seeds, self.leave_out)
        chosen = [cell for cell in made if not only or any(text.lower() in cell.label.lower() for text in only)]
        if not chosen:
            names = "; ".join(cell.label for cell in made)
            raise SweepError(f"--only {quote(', '.join(only or ()))}: no cell has that in its name; there are {names}")
        return chosen


def names() -> list[str]:
    """Return the names of all recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(name: str) -> Recipe:
    """Return the recipe of that name; a SweepError where its file is not a recipe.

    >>> [axis.name for axis in read("latent-sizes").axes]
    ['net', 'latent']
    """
    path = FOLDER / f"{choose('recipe', name, names())}.toml"
    try:
        content: dict[str, Any] = files.read_toml(path)
        for table in content.get("published", ()):  # a value is a number or [number, error]
            table["values"] = {
                k: (v[0], v[1]) if isinstance(v, list) else (v, None) for k, v in table["values"].items()
            }
        content |= {
            "base": texts(content["base"]),
            "axes": [axis(name, values) for name, values in content.pop("vary").items()],
            "when": [(condition["labels"], texts(condition["set"])) for condition in content.get("when", ())],
            "measures": tuple(content.get("measures", ())),
            "published": [Published(**table) for table in content.get("published", ())],
        }
        return Recipe(name=name, **content)
    except (ValueError, LookupError, TypeError) as error:
        raise SweepError(f"{path} is not a recipe: {error!r}") from None


def axis(name: str, values: list[object] | dict[str, dict[str, object]]) -> Axis:
    """Return the axis of `latent = [1, 4]`, or of a table {label: {setting: value}}."""
    if isinstance(values, list):
        return Axis(name, {str(value): {name: str(value)} for value in values})
    return Axis(name, {label: texts(settings) for label, settings in values.items()})


def texts(settings: dict[str, object]) -> dict[str, str]:
    """Return settings as the command line takes them."""
    return {name: str(value) for name, value in settings.items()}
