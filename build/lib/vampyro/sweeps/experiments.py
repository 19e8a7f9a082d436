"""Published experiments as data: one TOML file each in recipes/, read and checked. Pure Python."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from vampyro.errors import choose
from vampyro.sweeps.grid import Axis, SweepError

FOLDER = Path(__file__).with_name("recipes")


@dataclass(frozen=True)
class Recipe:
    """An experiment of a source, and the figures published there.

    Attributes:
        name: of its file.
        title, source, asks: for a person.
        differs: sentences on what differs from the source's protocol.
        base: {setting: text} that all runs share.
        axes: `Axis` objects.
        when: pairs ({axis: label}, {setting: text}).
        hours: of all its runs on one core of the machine that `vampyro.sweeps.durations.pace` compares with.
        seeds: how many.
        measures: names of `vampyro.reports.sections.SECTIONS`.
        published: list of `Published`.
    """

    name: str
    title: str
    source: str
    asks: str
    differs: list
    base: dict
    axes: list
    when: list
    hours: float
    seeds: int
    measures: tuple
    published: list


@dataclass(frozen=True)
class Published:
    """Figures of a source, in our units and signs.

    Attributes:
        by: whose, and what they are.
        metric: of ours, beside which they stand.
        values: {cell's labels with " / " between: (value, error or None)}.
        comparable: whether they are of the same quantity; else a picture has an axis of their own for them.
    """

    by: str
    metric: str
    values: dict
    comparable: bool


def names():
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(name):
    """The recipe of that name.

    Raises:
        SpecError: where there is none.
        SweepError: where its file is not one.

    >>> [axis.name for axis in read("latent-sizes").axes]
    ['net', 'latent']
    """
    path = FOLDER / f"{choose('recipe', name, names())}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return Recipe(
            name,
            content.pop("title"),
            content.pop("source"),
            content.pop("asks"),
            content.pop("differs"),
            texts(content.pop("base")),
            [axis(name, values) for name, values in content.pop("vary").items()],
            [(condition["labels"], texts(condition["set"])) for condition in content.pop("when", ())],
            content.pop("hours"),
            content.pop("seeds", 1),
            tuple(content.pop("measures", ())),
            [published(**table) for table in content.pop("published", ())] if not _unknown(content) else [],
        )
    except (tomllib.TOMLDecodeError, LookupError, TypeError) as error:
        raise SweepError(f"{path} is no recipe: {error!r}") from None


def _unknown(content):
    if extra := set(content) - {"published"}:
        raise LookupError(f"unknown {', '.join(sorted(extra))}")


def axis(name, values):
    """`latent = [1, 4]`, or a table {label: {setting: value}}."""
    if isinstance(values, list):
        return Axis(name, {str(value): {name: str(value)} for value in values})
    return Axis(name, {label: texts(settings) for label, settings in values.items()})


def texts(settings):
    return {name: str(value) for name, value in settings.items()}


def published(by, metric, values, comparable=True):
    values = {cell: tuple(v) if isinstance(v, list) else (v, None) for cell, v in values.items()}
    return Published(by, metric, values, comparable)
