"""The axes that a sweep varies, and the cells of their product. Imports no torch, so that `--help` is instant."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from vampyro.errors import SpecError, UserError, choose, quote
from vampyro.runs import config as flags

MAX_RUNS = 10_000  # of a sweep
LISTS = ("hidden", "latent", "flow", "activation")  # flags whose values may hold commas
# {setting that no sweep varies: why}
NOT_VARIED = {
    **dict.fromkeys(flags.WHERE, "it would not make another run; give it once"),
    "seed": "write --seeds N",
    "out": "each run has a folder of its own below --out",
    "resume": "leave it out",
}


class SweepError(UserError):
    """A sweep with settings that cannot be run."""


@dataclass(frozen=True)
class Axis:
    """A setting, or several, that a sweep varies; `values` is {label: {setting: text}}, in order."""

    name: str
    values: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Cell:
    """One point of the product: {axis: label}, the given settings of its runs, and all their settings, parsed."""

    labels: dict[str, str]
    given: dict[str, Any]
    config: flags.Config

    @property
    def name(self) -> str:
        """The labels with their axes, `latent 16 · prior mog:5`."""
        return " · ".join(f"{axis} {label}" for axis, label in self.labels.items()) or "run"

    @property
    def label(self) -> str:
        """The labels as in tables and published metrics, `16 / mog:5`."""
        return " / ".join(self.labels.values())

    def folder(self, out: Path, seed: int) -> Path:
        """Return the folder of the run with that seed."""
        return out / "_".join([*(clean(f"{axis}-{label}") for axis, label in self.labels.items()), f"seed{seed}"])

    def words(self, seed: int) -> list[str]:
        """Return the command line of the run with that seed, without --out."""
        return flags.words(self.given | {"seed": seed})


def clean(text: str) -> str:
    """Return a text as part of a file's name.

    >>> clean("dataset-my/digits.npz"), clean("hidden-300,300")
    ('dataset-my-digits.npz', 'hidden-300,300')
    """
    return re.sub(r"[^\w.,+-]+", "-", text).strip("-")


def vary(text: str) -> Axis:
    """Return the axis of `NAME=V,V,…`. Slashes separate values that hold commas: `hidden=300,300/500`.

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
    if setting in NOT_VARIED:
        raise SweepError(f"{given}: {name} is not varied: {NOT_VARIED[setting]}")
    try:
        choose("flag", f"--{name}", [flags.flags_of([other]) for other in flags.DEFAULTS if other not in NOT_VARIED])
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
        given: {setting: value} that all cells share.
        when: pairs (labels, settings): cells with those labels also have those settings.
        seeds: the number of runs of each cell.
        leave_out: labels of cells that are not run.

    >>> [cell.name for cell in cells([vary("latent=2,3"), vary("beta=1,4")], {"epochs": 5})]
    ['latent 2 · beta 1', 'latent 2 · beta 4', 'latent 3 · beta 1', 'latent 3 · beta 4']
    """
    for name, times in Counter(axis.name for axis in axes).items():
        if times > 1:
            raise SweepError(f"--vary {name} is given twice: write all its values after one")
    if both := sorted({name for axis in axes for settings in axis.values.values() for name in settings} & set(given)):
        raise SweepError(f"{flags.flags_of(both)} is given and varied: leave one of them out")
    count = seeds * math.prod(len(axis.values) for axis in axes)
    if count > MAX_RUNS:
        raise SweepError(f"{count} runs are more than {MAX_RUNS}: give fewer --seeds or fewer values to --vary")
    made: list[Cell] = []
    seen: dict[object, Cell] = {}
    for chosen in product(*(axis.values.items() for axis in axes)):
        labels = {axis.name: label for axis, (label, _) in zip(axes, chosen)}
        if any(condition.items() <= labels.items() for condition in leave_out):
            continue
        settings = given | {name: value for _, values in chosen for name, value in values.items()}
        for condition, extra in when:
            if condition.items() <= labels.items():
                settings |= extra
        cell = Cell(labels, settings, flags.read(flags.words(settings))[0])
        clashes = {
            repr(cell.config): "are the same run: leave one of them out",
            cell.folder(Path(), 0): "would share a folder: rename one",
        }
        for key, clash in clashes.items():
            if (other := seen.setdefault(key, cell)) is not cell:
                raise SweepError(f"{other.name!r} and {cell.name!r} {clash}")
        made.append(cell)
    return made


def number(label: str) -> float | None:
    """Return the number in a label, or None; `none` is 0.

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
    """Return the labels as numbers, or None where they are not of one kind.

    >>> numeric(["none", "planar:3", "planar:8"]), numeric(["mog:5", "vamp:5"]), numeric(["relu", "tanh"])
    ([0.0, 3.0, 8.0], None, None)
    """
    numbers = [found for label in labels if (found := number(label)) is not None]
    kinds = {re.sub(r"[0-9.]+(e[+-]?[0-9]+)?", "", label) for label in labels if label != "none"}
    return numbers if len(numbers) == len(labels) > 1 == len(kinds) else None


def duration(seconds: float) -> str:
    """Return a number of seconds as text.

    >>> [duration(s) for s in (20, 100, 5000, 90000, 1e6)]
    ['under a minute', 'about 2 minutes', 'about 1.4 hours', 'about 25.0 hours', 'about 11.6 days']
    """
    if seconds < 60:
        return "under a minute"
    if seconds < 3600:
        return f"about {math.ceil(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"about {seconds / 86400:.1f} days"
