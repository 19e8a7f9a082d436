"""Errors that a user can fix, and how their messages are written."""

import re
from collections.abc import Collection
from difflib import get_close_matches
from importlib.util import find_spec


class UserError(ValueError):
    """An error that a user can fix: the command line reports it in one line, without a traceback."""


class SpecError(UserError):
    """A spec string that cannot be read, and what would be right."""


QUOTE_LENGTH = 200  # characters of a user's value that an error repeats
WORD_LENGTH = 1000  # characters of a word in any error


def quote(value: object) -> str:
    """Return `value` as an error shows it: its repr in one line, shortened in the middle where it is long.

    >>> print(quote("vamp:\\n5"), quote(7))
    'vamp:\\n5' 7
    >>> quote("x" * 100_000)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…xxxxxxxxxxxxxxxxxxx' (100002 characters)"
    """
    return _cut(repr(value), QUOTE_LENGTH)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:50]}…{text[-20:]} ({len(text)} characters)"


def shorten(message: str) -> str:
    """Return an error's text with every word of more than 1000 characters shortened in the middle.

    >>> shorten("cannot read " + "x" * 2000)
    'cannot read xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…xxxxxxxxxxxxxxxxxxxx (2000 characters)'
    """
    return re.sub(r"\S+", lambda word: _cut(word[0], WORD_LENGTH), message)


def choose(kind: str, name: str, names: Collection[str]) -> str:
    """Return `name` if it is one of `names`; else a SpecError that suggests the nearest.

    >>> choose("flow", "plannar", ["none", "planar"])
    Traceback (most recent call last):
    vampyro.errors.SpecError: unknown flow 'plannar'; did you mean 'planar'? (choose from none, planar)
    """
    if name in names:
        return name
    close = get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    nearest = f"did you mean {close[0]!r}?" if close else ""
    hint = f"; {MEANT.get((kind, name.lower()), nearest)}".rstrip("; ")
    raise SpecError(f"unknown {kind} {quote(name)}{hint} (choose from {', '.join(names)})")


class CapacityError(UserError):
    """Something that needs more memory than there is."""


class DataError(UserError):
    """Data that cannot be used: what was given, what was expected, and what to do about it."""


def require(package: str, wanted: str) -> None:
    """Raise a SpecError where what is `wanted` needs a package that is not installed; imports nothing.

    >>> require("json", "--json")
    >>> require("no_such_package", "--tensorboard")
    Traceback (most recent call last):
    vampyro.errors.SpecError: --tensorboard needs no_such_package: pip install -r requirements-extras.txt
    """
    if find_spec(package) is None:
        raise SpecError(f"{wanted} needs {package}: pip install -r requirements-extras.txt")


FOR_SCORING = "it is for scoring only: train another, then run.py score DIR --prior"
# {(kind, another word for a name): hint}
MEANT = {
    ("device", "gpu"): "did you mean 'cuda'?",
    ("prior", "normal"): "did you mean 'standard'?",
    ("prior", "gaussian"): "did you mean 'standard'?",
    ("posterior", "gaussian"): "did you mean 'normal'?",
    ("likelihood", "gaussian"): "did you mean 'normal'?",
    ("flow", "realnvp"): "did you mean 'coupling'?",
    ("flow", "nsf"): "did you mean 'spline'?",
    ("prior", "aggregate"): f"{FOR_SCORING} aggregate",
    ("prior", "gmm"): f"{FOR_SCORING} gmm",
}
