"""Every example in a docstring gives what it shows."""

import doctest
import importlib

import pytest

from tests.test_architecture import MODULES

DOCTESTED = [name for name, path in MODULES.items() if ">>> " in path.read_text()]


@pytest.mark.parametrize("name", DOCTESTED)
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0 and result.failed == 0
