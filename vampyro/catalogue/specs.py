"""Spec strings: `NAME[:N][:OPTION…]`, the same on the command line, in `assemble`, in checkpoints and in labels.

Pure Python, so that `run.py --help` need not import torch.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from vampyro.catalogue.parts import Part, rows
from vampyro.errors import SpecError, choose, quote


@dataclass(frozen=True)
class Spec:
    """A spec string, read. `str(spec)` shows every default and reads back to the same spec.

    >>> parse("prior", "vamp:500:weighted:from-data")
    Spec('vamp:500:from-data:weighted')
    """

    name: str
    n: int | None = None
    options: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        """N, of a spec that has one."""
        assert self.n is not None
        return self.n

    def __str__(self) -> str:
        return ":".join([self.name, *([] if self.n is None else [str(self.n)]), *sorted(self.options)])

    def __repr__(self) -> str:
        return f"Spec({str(self)!r})"


def usage(family: str) -> str:
    """How the family's specs are written; options that exclude each other have bars between.

    >>> usage("objective")
    'elbo[:analytic][:score|relaxed|enumerate], iwae[:N], intro[:N][:reconstructions]'
    """

    def written(row: Part) -> str:
        free = [option for option in row.options if option not in row.exclusive]
        words = [*(["N"] if row.n is not None else []), *free, *filter(None, ["|".join(row.exclusive)])]
        return row.name + "".join(f"[:{word}]" for word in words)

    return ", ".join(map(written, rows(family).values()))


def parse(family: str, text: Any) -> Spec:
    """Read a spec of one family (`prior`, `flow`, …).

    Raises:
        SpecError: unknown name or option, N where none is taken, below 1 or too large, options that exclude each other.

    >>> str(parse("flow", "planar"))
    'planar:5'
    >>> parse("flow", "planar:0")
    Traceback (most recent call last):
    vampyro.errors.SpecError: flow 'planar:0': N must be at least 1 (write 'none' for no flow)
    """
    if isinstance(text, Spec):
        text = str(text)
    if not isinstance(text, str):
        raise SpecError(
            f"a {family} is written as text, 'NAME[:N][:OPTION…]', got {quote(text)} (there are {usage(family)})"
        )
    name, *rest = text.strip().split(":")
    form = rows(family)[choose(family, name, list(rows(family)))]
    given = f"{family} {quote(text)}"
    n, options = form.n, []
    for position, part in enumerate(rest):
        if part in form.options:
            if part in options:
                raise SpecError(f"{given}: option {quote(part)} is given twice")
            options.append(part)
        elif position > 0 or not re.fullmatch("[+-]?[0-9]+", part):
            if not form.options and form.n is None:
                raise SpecError(f"{given}: {name!r} takes nothing after it, got {quote(part)}")
            number = ["a whole number"] if form.n is not None and position == 0 else []
            expected = " or ".join([*number, *map(repr, form.options)]) or "nothing"
            close = get_close_matches(part, form.options, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise SpecError(f"{given}: expected {expected}, got {quote(part)}{hint}")
        elif form.n is None:
            raise SpecError(f"{given}: {name!r} takes no number, got {quote(part)}")
        elif float(part) < 1:  # int refuses thousands of digits
            hint = " (write 'none' for no flow)" if family == "flow" else ""
            raise SpecError(f"{given}: N must be at least 1{hint}")
        elif float(part) > form.max_n:
            raise SpecError(f"{given}: N must be at most {form.max_n}")
        else:
            n = int(float(part))
    if len(clash := [option for option in options if option in form.exclusive]) > 1:
        raise SpecError(f"{given}: {' and '.join(map(repr, clash))} exclude each other")
    return Spec(name, n, frozenset(options))


def parse_each(family: str, text: Any, count: int) -> list[Spec]:
    """A spec for each of `count` things, from one spec for all of them or `count` with commas between.

    >>> parse_each("flow", "planar:5,none", 2)
    [Spec('planar:5'), Spec('none')]
    """
    specs = [parse(family, part) for part in (text.split(",") if isinstance(text, str) else [text])]
    if len(specs) not in (1, count):
        expected = "one" if count == 1 else f"one, or {count} with commas between"
        raise SpecError(f"{family} {quote(text)}: expected {expected}")
    return specs * (count // len(specs))
