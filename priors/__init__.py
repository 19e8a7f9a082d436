"""p(z): modules whose `forward()` returns a distribution over z."""

from priors.bernoulli import StandardBernoulli
from priors.flow import FlowPrior
from priors.mog import MixtureOfGaussians
from priors.standard import StandardNormal
from priors.vamp import VampPrior

__all__ = ["FlowPrior", "MixtureOfGaussians", "StandardBernoulli", "StandardNormal", "VampPrior"]
