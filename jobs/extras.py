"""Packages that only some flags need."""

from importlib.util import find_spec

from specs import SpecError


def require(package, wanted):
    """Raises a SpecError where what is `wanted` needs a package that is not installed; imports nothing.

    >>> require("json", "--json")
    >>> require("no_such_package", "--tensorboard")
    Traceback (most recent call last):
    specs.SpecError: --tensorboard needs no_such_package: pip install -r requirements-extras.txt
    """
    if find_spec(package) is None:
        raise SpecError(f"{wanted} needs {package}: pip install -r requirements-extras.txt")
