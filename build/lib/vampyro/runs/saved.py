"""Settings as they lie in a run's folder, read as carefully as those on a command line."""

import math

from vampyro.catalogue.specs import MANY
from vampyro.errors import SpecError, quote
from vampyro.runs.arguments import Parser
from vampyro.runs.config import DEFAULTS, parser, written

# Settings that older runs lack.
ADDED = {"condition": "none", "tensorboard": False, "classes": None, "gemm": "blas"}


class Strict(Parser):
    def error(self, message):
        raise SpecError(message)


RECORDED = {  # what a run writes beside its settings: whether a value is one, and what is expected
    "shape": (
        lambda v: isinstance(v, list) and len(v) == 3 and all(map(is_count, v)) and math.prod(v) <= MANY,
        "[channels, height, width]",
    ),
    "sha256": (
        lambda v: isinstance(v, dict) and all(isinstance(digest, str) for digest in v.values()),
        "{file: digest}",
    ),
    "classes": (lambda v: v is None or is_count(v), "a number of classes or null"),
    "processes": (lambda v: is_count(v), "a number of processes"),
    "gemm": (lambda v: isinstance(v, str), "a name"),
}


REQUIRED = (*DEFAULTS, "shape", "sha256")


def is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= MANY


def read(config: object) -> dict:
    """Return the settings in the contents of a config.json, all of them; keys that no version wrote are ignored.

    Raises:
        SpecError: where it is not an object, lacks a setting, or `check` rejects one.

    >>> read(DEFAULTS)
    Traceback (most recent call last):
    vampyro.errors.SpecError: it lacks shape, sha256
    """
    if not isinstance(config, dict):
        raise SpecError(f"expected an object, got {quote(config)}")
    config = ADDED | config
    if missing := [name for name in REQUIRED if name not in config]:
        raise SpecError(f"it lacks {', '.join(missing[:3])}")
    check(config)
    if (config.get("classes") is None) != (config["condition"] == "none"):
        raise SpecError(f"classes: {quote(config.get('classes'))} does not fit --condition {config['condition']}")
    return config


def check(config):
    """Reject settings that no command line gives: a config.json may come from anybody.

    Raises:
        SpecError: names the flag, and what is wrong with its value.

    >>> check(DEFAULTS)    # doctest: +ELLIPSIS
    >>> check(DEFAULTS | {"latent": "wide"})    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vampyro.errors.SpecError: argument --latent: expected a whole number of at least 1 and ...
    >>> check(DEFAULTS | {"epochs": 1e3})    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vampyro.errors.SpecError: argument --epochs: expected a whole number of at least 1 and ...
    """
    named = {name: config[name] for name in DEFAULTS if name in config}
    named = {name: value for name, value in named.items() if value is not DEFAULTS[name] or value not in (None, False)}
    argv = [_argument("--" + name.replace("_", "-"), value) for name, value in named.items()]
    again = vars(parser(kind=Strict).parse_args(argv))
    for name, value in named.items():
        if again[name] != value:
            raise SpecError(f"argument --{name.replace('_', '-')}: expected {quote(again[name])}, got {quote(value)}")
    for name, (fits, expected) in RECORDED.items():
        if name in config and not fits(config[name]):
            raise SpecError(f"{name}: expected {expected}, got {quote(config[name])}")


def _argument(flag, value):
    return flag if value is True else f"{flag}={written(value)}"
