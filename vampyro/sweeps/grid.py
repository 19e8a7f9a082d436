"""What a sweep varies: axes, and the runs that their product makes. Pure Python, so that `--help` needs no torch."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from vampyro.errors import SpecError, UserError, choose, quote
from vampyro.runs import config as flags

MAX_RUNS = 10_000  # of a sweep


LISTS = ("hidden", "latent", "flow", "activation")  # flags whose values may hold commas


OWN = {
    **dict.fromkeys(flags.WHERE, "it would not make another run; give it once"),
    "seed": "write --seeds N",
    "out": "each run has a folder of its own below --out",
    "resume": "leave it out",
}


class SweepError(UserError):
    """A sweep that cannot be run as it was asked for."""


@dataclass(frozen=True)
class Axis:
    """A setting, or several, that a sweep varies: `values` is {label: {setting: text}}, in order."""

    name: str
    values: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Cell:
    """One point of the product: {axis: label}, the settings of its runs as they are given, and all of them, parsed."""

    labels: dict[str, str]
    given: dict[str, Any]
    config: flags.Config

    @property
    def name(self) -> str:
        """Its labels for people: `latent 16 · prior mog:5`."""
        return " · ".join(f"{axis} {label}" for axis, label in self.labels.items()) or "run"

    @property
    def label(self) -> str:
        """Its labels as rows of tables and published figures bear it: `16 / mog:5`."""
        return " / ".join(self.labels.values())

    def folder(self, out: Path, seed: int) -> Path:
        """Return the folder of its run with that seed."""
        return out / "_".join([*(clean(f"{axis}-{label}") for axis, label in self.labels.items()), f"seed{seed}"])

    def words(self, seed: int) -> list[str]:
        """Return the command line of its run with that seed, but for --out."""
        return flags.words(self.given | {"seed": seed})


def clean(text: str) -> str:
    """Return a text as part of a file's name.

    >>> clean("prior-vamp:500:from-data"), clean("dataset-my/digits.npz"), clean("hidden-300,300")
    ('prior-vamp-500-from-data', 'dataset-my-digits.npz', 'hidden-300,300')
    """
    return re.sub(r"[^\w.,+-]+", "-", text).strip("-")


def vary(text: str) -> Axis:
    """`NAME=V,V,…` → Axis; where values hold commas, as of `hidden`, they stand between slashes: `hidden=300,300/500`.

    Raises:
        SweepError: where it is not of that form, names what no sweep varies, or has a value twice.

    >>> vary("latent=1,4").values
    {'1': {'latent': '1'}, '4': {'latent': '4'}}
    >>> list(vary("hidden=300,300/500,500").values), list(vary("hidden=300,300/").values)
    (['300,300', '500,500'], ['300,300'])
    """
    name, equals, rest = text.partition("=")
    name = name.strip().removeprefix("--").replace("_", "-")
    setting, given = name.replace("-", "_"), f"--vary {quote(text)}"
    if not equals or not name or not rest:
        raise SweepError(f"{given}: expected NAME=VALUE,VALUE,… as in latent=2,16 or prior=mog:5,mog:10")
    if setting in OWN:
        raise SweepError(f"{given}: {name} is not varied: {OWN[setting]}")
    try:
        choose("flag", f"--{name}", [flags.flags_of([other]) for other in flags.DEFAULTS if other not in OWN])
    except SpecError as error:
        raise SweepError(f"{given}: {error}") from None
    slashes = setting in LISTS and "/" in rest
    labels = [label.strip() for label in rest.split("/" if slashes else ",")]
    if slashes and not labels[-1]:
        labels.pop()
    if not all(labels):
        raise SweepError(f"{given}: a value is empty")
    if len(set(labels)) < len(labels):
        hint = f"; for lists write slashes between them, {name}=300,300/500,500" if setting in LISTS else ""
        raise SweepError(f"{given}: a value is given twice{hint}")
    return Axis(name, {label: {setting: label} for label in labels})


def cells(
    axes: Sequence[Axis],
    given: dict[str, Any],
    when: Sequence[tuple[dict[str, str], dict[str, str]]] = (),
    seeds: int = 1,
    leave_out: Sequence[dict[str, str]] = (),
) -> list[Cell]:
    """Return the product of the axes, first axis slowest.

    Args:
        axes: what varies.
        given: {setting: value} that all share.
        when: pairs (labels, settings): cells with those labels have those settings besides.
        seeds: how many runs each cell has.
        leave_out: labels of cells that are not run.

    Raises:
        SweepError: for an axis that comes twice or varies what is given to all, for two cells that are the same run
            or share a folder, and for more runs than `MAX_RUNS`.
        SystemExit: after one line on what is wrong, where a flag or a value is none.

    >>> [cell.name for cell in cells([vary("latent=2,3"), vary("beta=1,4")], {"epochs": 5})]
    ['latent 2 · beta 1', 'latent 2 · beta 4', 'latent 3 · beta 1', 'latent 3 · beta 4']
    """
    for number, axis in enumerate(axes):
        if axis.name in [other.name for other in axes[:number]]:
            raise SweepError(f"--vary {axis.name} is given twice: write all its values after one")
        for settings in axis.values.values():
            if both := sorted(set(settings) & set(given)):
                raise SweepError(f"{flags.flags_of(both)} is given and varied: leave one of them out")
    count = seeds * math.prod(len(axis.values) for axis in axes)
    if count > MAX_RUNS:
        raise SweepError(f"{count} runs are more than {MAX_RUNS}: give fewer --seeds or fewer values to --vary")
    made: list[Cell] = []
    names: dict[Path, Cell] = {}
    configs: dict[str, Cell] = {}
    for chosen in product(*(axis.values.items() for axis in axes)):
        labels = {axis.name: label for axis, (label, _) in zip(axes, chosen)}
        if any(condition.items() <= labels.items() for condition in leave_out):
            continue
        settings = given | {name: value for _, values in chosen for name, value in values.items()}
        for condition, extra in when:
            if condition.items() <= labels.items():
                settings |= extra
        cell = Cell(labels, settings, flags.read(flags.words(settings))[0])
        same = configs.setdefault(repr(cell.config), cell)
        if same is not cell:
            raise SweepError(f"{same.name!r} and {cell.name!r} are the same run: leave one of them out")
        other = names.setdefault(cell.folder(Path(), 0), cell)
        if other is not cell:
            raise SweepError(f"{other.name!r} and {cell.name!r} would share a folder: rename one")
        made.append(cell)
    return made


def number(label: str) -> float | None:
    """Return the number in a label, or None: of `16`, of `mog:10` and of `planar:5:shared`; `none` is 0.

    >>> [number(label) for label in ("0.5", "mog:10", "planar:5:shared", "none", "gated")]
    [0.5, 10.0, 5.0, 0.0, None]
    """
    if label == "none":
        return 0.0
    found = re.fullmatch(r"(?:[a-z-]+:)?([0-9.]+(?:e[+-]?[0-9]+)?)(?::[a-z:-]+)?", label)
    try:
        return float(found[1]) if found else None
    except ValueError:
        return None


def numeric(labels: Sequence[str]) -> list[float] | None:
    """Return the labels as numbers, None where they are not of one kind (`mog:5`, `mog:10`, not `mog:5`, `vamp:5`).

    >>> numeric(["none", "planar:3", "planar:8"]), numeric(["mog:5", "vamp:5"]), numeric(["relu", "tanh"])
    ([0.0, 3.0, 8.0], None, None)
    """
    numbers = [found for label in labels if (found := number(label)) is not None]
    kinds = {re.sub(r"[0-9.]+(e[+-]?[0-9]+)?", "", label) for label in labels if label != "none"}
    return numbers if len(numbers) == len(labels) > 1 == len(kinds) else None


def duration(seconds: float) -> str:
    """Return a number of seconds for people.

    >>> [duration(s) for s in (20, 100, 5000, 90000, 1e6)]
    ['under a minute', 'about 2 minutes', 'about 1.4 hours', 'about 25.0 hours', 'about 11.6 days']
    """
    if seconds < 60:
        return "under a minute"
    if seconds < 3600:
        return f"about {math.ceil(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"about {seconds / 86400:.1f} days"
