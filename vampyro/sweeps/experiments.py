"""Published experiments as data: one TOML file each in recipes/, read and checked. Pure Python."""

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
    """Metrics of a source, in our units and signs.

    Attributes:
        by: whose, and what they are.
        metric: of ours, beside which they stand.
        values: {cell's labels with " / " between: (value, error or None)}.
        comparable: whether they are of the same quantity; else a picture has an axis of their own for them.
    """

    by: str
    metric: str
    values: dict[str, tuple[float, float | None]]
    comparable: bool = True

    @classmethod
    def read(cls, by: str, metric: str, values: dict[str, Any], comparable: bool = True) -> "Published":
        """Return a table of a recipe's file, where a value is a number or [number, error]."""
        pairs = {cell: (v[0], v[1]) if isinstance(v, list) else (v, None) for cell, v in values.items()}
        return cls(by, metric, pairs, comparable)


@dataclass(frozen=True)
class Recipe:
    """An experiment of a source, and the metrics published there.

    Attributes:
        name: of its file.
        title, source, asks: for a person.
        differs: sentences on what differs from the source's protocol.
        base: {setting: text} that all runs share.
        axes: what varies.
        hours: about, of all its runs on one CPU core.
        when: pairs ({axis: label}, {setting: text}).
        leave_out: labels of cells that the source does not have.
        seeds: how many.
        measures: names of `vampyro.reports.sections.SECTIONS`.
        published: metrics of the source.
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
        """Return its cells, with what is `given` in place of its own settings; those with a text of `only` in the name.

        Raises:
            SweepError: where none is left, or what is given is what varies.
        """
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
    """Return the recipe of that name.

    Raises:
        SpecError: for an unknown name.
        SweepError: for a file that is not a recipe.

    >>> [axis.name for axis in read("latent-sizes").axes]
    ['net', 'latent']
    """
    path = FOLDER / f"{choose('recipe', name, names())}.toml"
    try:
        content: dict[str, Any] = files.read_toml(path)
        content |= {
            "base": texts(content["base"]),
            "axes": [axis(name, values) for name, values in content.pop("vary").items()],
            "when": [(condition["labels"], texts(condition["set"])) for condition in content.get("when", ())],
            "measures": tuple(content.get("measures", ())),
            "published": [Published.read(**table) for table in content.get("published", ())],
        }
        return Recipe(name=name, **content)
    except (ValueError, LookupError, TypeError) as error:
        raise SweepError(f"{path} is no recipe: {error!r}") from None


def axis(name: str, values: list[object] | dict[str, dict[str, object]]) -> Axis:
    """Return the axis of `latent = [1, 4]`, or of a table {label: {setting: value}}."""
    if isinstance(values, list):
        return Axis(name, {str(value): {name: str(value)} for value in values})
    return Axis(name, {label: texts(settings) for label, settings in values.items()})


def texts(settings: dict[str, object]) -> dict[str, str]:
    """Return settings as the command line takes them."""
    return {name: str(value) for name, value in settings.items()}
