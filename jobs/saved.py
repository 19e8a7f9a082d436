"""Settings as they lie in a run's folder, read as carefully as those on a command line."""

from jobs.arguments import Parser
from jobs.flags import DEFAULTS, parser, written
from specs import MANY, SpecError

# Settings that older runs lack.
ADDED = {"condition": "none", "tensorboard": False, "classes": None, "gemm": "blas"}


class Strict(Parser):
    def error(self, message):
        raise SpecError(message)


def check(config):
    """Refuses settings that no command line gives: a config.json may come from anybody.

    Raises:
        SpecError: names the flag, and what is wrong with its value.

    >>> check(DEFAULTS)
    >>> check(DEFAULTS | {"latent": "wide"})
    Traceback (most recent call last):
    specs.SpecError: argument --latent: expected a whole number of at least 1 and at most 1000000000, got 'wide'
    >>> check(DEFAULTS | {"epochs": 1e3})
    Traceback (most recent call last):
    specs.SpecError: argument --epochs: expected a whole number of at least 1 and at most 1000000000, got '1000.0'
    """
    named = {name: config[name] for name in DEFAULTS if name in config}
    named = {name: value for name, value in named.items() if value is not DEFAULTS[name] or value not in (None, False)}
    argv = [_argument("--" + name.replace("_", "-"), value) for name, value in named.items()]
    again = vars(parser(kind=Strict).parse_args(argv))
    for name, value in named.items():
        if again[name] != value:
            raise SpecError(f"argument --{name.replace('_', '-')}: expected {again[name]!r}, got {value!r}")
    shape = config.get("shape", [1])
    if not (isinstance(shape, list) and all(type(size) is int and 1 <= size <= MANY for size in shape)):
        raise SpecError(f"shape: expected [channels, height, width], got {shape!r}")


def _argument(flag, value):
    return flag if value is True else f"{flag}={written(value)}"
