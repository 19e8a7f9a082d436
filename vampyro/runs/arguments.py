"""The argparse types and the parser of all commands. Imports no torch."""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from vampyro.catalogue.parts import MAX_COUNT, MAX_LAYERS, command, known, user_parts
from vampyro.catalogue.specs import parse
from vampyro.errors import SpecError, choose, quote, shorten

MAX_LENGTH = 4096  # characters of a word; no path is longer
MAX_SEED = 2**63 - 1  # the largest seed of torch
LARGEST = 1e38  # approximately the largest float32
DEVICES = ["auto", "cpu", "cuda"]
PRIORS = {
    "own": "the trained prior",
    "aggregate": "1/N Σ q(z | x_n) over all N training images, the optimal prior for this guide and decoder",
    "gmm[:K]": "a mixture of K Gaussians (default 10), fitted to the latents of all training images",
}
Number = TypeVar("Number", int, float)


def as_started(command: str) -> str:
    """Return a command `python run.py …`, or `vampyro …` if this program was started like that."""
    own = Path(sys.argv[0])
    module = own.name == "__main__.py" and own.parent.name == "vampyro"
    name = "vampyro" if own.stem == "vampyro" else "python -m vampyro" if module else None
    return command if name is None else re.sub(r"(python )?run\.py", name, command, count=1)


def spec(family: str) -> Callable[[str], str]:
    """Return an argparse type for a spec of that family."""

    def read(text: str) -> str:
        try:
            return str(parse(family, text))
        except SpecError as error:
            raise argparse.ArgumentTypeError(str(error)) from None  # argparse ignores the text of a ValueError

    return read


def specs_of(family: str) -> Callable[[str], str]:
    """Return an argparse type for one spec of that family, or several separated by commas."""
    return lambda text: ",".join(map(spec(family), text.split(",")))


def number(kind: type[Number], least: float, most: float = math.inf, above: bool = False) -> Callable[[str], Number]:
    """Return an argparse type: an int or float, finite, at least (or `above`) one bound and at most another."""

    def read(text: str) -> Number:
        try:
            value = kind(text) if text.isascii() and "_" not in text else None  # Python reads 1_0 and ١٠ as 10
        except ValueError:
            value = None
        if value is None or value == math.inf or not least <= value <= most or (above and value == least):
            what = "a whole number" if kind is int else "a number"
            bounds = f"{'above' if above else 'of at least'} {least}"
            bounds += f" and at most {most}" if most < math.inf else ""
            raise argparse.ArgumentTypeError(f"expected {what} {bounds}, got {quote(text)}")
        return value

    return read


# For `add_argument(flag, help=…, **COUNT)`.
COUNT: dict[str, Any] = {"type": number(int, 1, MAX_COUNT), "metavar": "N"}
THREADS: dict[str, Any] = {"type": number(int, 1, 1024), "metavar": "N"}
SEED: dict[str, Any] = {"type": number(int, 0, MAX_SEED), "metavar": "N"}


def path(text: str) -> str:
    """An argparse type: a path that cannot be mistaken for a flag."""
    if text.startswith("-"):
        raise argparse.ArgumentTypeError(f"{quote(text)} starts with '-': put ./ in front of it")
    return text


def file(ending: str) -> dict[str, Any]:
    """Return arguments of `add_argument` for a writable path with that ending."""

    def read(text: str) -> Path:
        target = Path(path(text))
        try:
            if target.suffix != ending or target.is_dir():
                what = "a folder" if target.is_dir() else quote(text)
                raise argparse.ArgumentTypeError(f"expected a file, FILE{ending}, got {what}")
            above = next(folder for folder in target.absolute().parents if folder.exists())
            if not (above.is_dir() and os.access(above, os.W_OK)):
                raise argparse.ArgumentTypeError(f"cannot write {quote(text)}: {above} is not a writable folder")
        except OSError as error:
            raise argparse.ArgumentTypeError(f"cannot write {quote(text)}: {error.strerror}") from None
        return target

    return {"type": read, "metavar": "FILE"}


def widths(text: str) -> list[int]:
    """An argparse type: `300,300` → [300, 300]."""
    parts = text.split(",")
    if len(parts) > MAX_LAYERS:
        raise argparse.ArgumentTypeError(f"expected at most {MAX_LAYERS} numbers, got {len(parts)}")
    return [number(int, 1, MAX_COUNT)(part) for part in parts]


def latents(text: str) -> int | list[int]:
    """An argparse type: `40` → 40, and `40,20` → [40, 20] for a model with two levels."""
    sizes = widths(text)
    return sizes[0] if len(sizes) == 1 else sizes


def word_fault(text: str, is_value: bool = True) -> str | None:
    """Return why a word can be neither a flag nor a value, or None if it can."""
    if len(text) > MAX_LENGTH:
        return f"expected at most {MAX_LENGTH} characters, got {quote(text)}"
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        return f"expected text without control characters, got {quote(text)}"
    if is_value and text.strip() in ("", "--"):
        return f"expected a value, got {quote(text)}"
    return None


def value_of(argv: Sequence[str], flag: str) -> str | None:
    """Return the last value of a flag, before the command line is parsed.

    >>> value_of(["--parts", "a.py", "--parts=b.py", "--prior", "mine"], "--parts")
    'b.py'
    """
    found = None
    for word, following in zip(argv, [*argv[1:], None]):
        if word == flag:
            found = following
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


class Parser(argparse.ArgumentParser):
    """A parser whose flags cannot be abbreviated, whose errors are one line, and that omits flags without a value."""

    def __init__(self, prog: str = "run.py", **kwargs: Any) -> None:
        super().__init__(prog=as_started(prog), argument_default=argparse.SUPPRESS, allow_abbrev=False, **kwargs)

    def add_run(self) -> None:
        self.add_argument("run", help="folder of the run", type=path, metavar="DIR")
        self.add_argument("--parts", help="the file with your own parts that the run uses", metavar="FILE.py")

    def add_data_dir(self, help: str) -> None:
        self.add_argument("--data-dir", help=help, type=path, metavar="DIR")

    def add_prior(self) -> None:
        what = "; ".join(f"{name}: {what}" for name, what in PRIORS.items()) + " (default: own)"
        self.add_argument("--prior", help=what, type=spec("scoring prior"), default="own", metavar="SPEC")

    def add_machine(self, noise: str) -> None:
        """Add --device, and --seed, the seed of `noise`."""
        self.add_argument(
            "--device", help="auto (the default): cuda if it is available", choices=DEVICES, default="auto"
        )
        self.add_argument("--seed", help=f"seed of the {noise} (default: the run's)", **SEED)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Check every word, then parse as argparse does, which would read `--out=--` as an empty list."""
        before = ""  # the flag for the next value
        for word in sys.argv[1:] if args is None else args:
            is_value = word == "--" or not word.startswith("--")
            flag, equals, value = (before, "=", word) if is_value else word.partition("=")
            if fault := word_fault(word, is_value=False) or (word_fault(value) if equals else None):
                self.error(f"argument {flag}: {fault}" if flag in self._option_string_actions else f"argument: {fault}")
            before = "" if equals else flag
        return super().parse_known_args(args, namespace)

    def named_settings(self, argv: Sequence[str]) -> dict[str, Any]:
        """Return {setting: value} of the flags in argv; exit with an error for an unknown flag."""
        self.know_parts(value_of(argv, "--parts"))
        namespace, unknown = self.parse_known_args(argv)
        if unknown and not unknown[0].startswith("-"):
            self.error(f"unexpected {quote(unknown[0])}: write lists without spaces, for example --hidden 300,300")
        if unknown:
            close = get_close_matches(unknown[0].split("=")[0], self._option_string_actions, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            self.error(f"unknown flag {quote(unknown[0])}{hint} (--help lists them all)")
        return {name: value for name, value in vars(namespace).items() if name != "parts"}

    def know_parts(self, file: str | None) -> None:
        """Load the user's parts before specs that use them are read."""
        try:
            if file is not None:
                if fault := word_fault(file):
                    raise SpecError(fault)
                if user_parts().file != path(file):
                    command.enter_context(known(file))
        except (SpecError, argparse.ArgumentTypeError) as error:
            self.error(f"argument --parts: {str(error).removeprefix('parts ')}")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {shorten(message)}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Suggest the nearest of the choices."""
        try:
            if action.choices is not None:
                choose(action.dest.replace("_", "-"), value, list(action.choices))
        except SpecError as error:
            raise argparse.ArgumentError(action, str(error)) from None
