"""p(z): modules whose `forward()` returns a distribution over z."""

import sys

from vampyro.priors.base import Prior
from vampyro.priors.codes import AutoregressivePrior, UniformCodes
from vampyro.priors.flow import FlowPrior
from vampyro.priors.mog import FittedMixture, MixtureOfGaussians
from vampyro.priors.standard import StandardBernoulli, StandardNormal
from vampyro.priors.vamp import VampPrior

__all__ = [
    "AutoregressivePrior",
    "FittedMixture",
    "FlowPrior",
    "MixtureOfGaussians",
    "Prior",
    "StandardBernoulli",
    "StandardNormal",
    "UniformCodes",
    "VampPrior",
]

if __name__ == "priors":  # imported by its short name, from a checkout: the same modules and classes under both names
    for name in ("base", "codes", "flow", "mog", "standard", "vamp"):
        sys.modules[f"priors.{name}"] = sys.modules[f"vampyro.priors.{name}"]
