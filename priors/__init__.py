"""p(z): modules whose `forward()` returns a distribution over z."""

from priors.bernoulli import StandardBernoulli
from priors.codes import AutoregressivePrior, UniformCodes
from priors.flow import FlowPrior
from priors.gmm import FittedMixture
from priors.mog import MixtureOfGaussians
from priors.standard import StandardNormal
from priors.vamp import VampPrior

__all__ = [
    "AutoregressivePrior",
    "FittedMixture",
    "FlowPrior",
    "MixtureOfGaussians",
    "StandardBernoulli",
    "StandardNormal",
    "UniformCodes",
    "VampPrior",
]
