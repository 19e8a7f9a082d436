"""p(z): modules whose `forward()` returns a distribution over z."""

from priors.mog import MixtureOfGaussians
from priors.standard import StandardNormal
from priors.vamp import VampPrior

__all__ = ["MixtureOfGaussians", "StandardNormal", "VampPrior"]
