"""Every test and every example in a docstring starts from one seed, whatever ran before."""

import pyro
import pytest


@pytest.fixture(autouse=True)
def one_seed():
    pyro.set_rng_seed(0)
