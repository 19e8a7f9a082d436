"""What torch and Pyro lack: mixtures at the price of a GEMM, likelihoods of grey images that keep their digits."""

from distributions.bernoulli import LinearBernoulli
from distributions.binary import BernoulliVector
from distributions.codes import AutoregressiveCodes, Codes, Quantised
from distributions.continuous_bernoulli import ContinuousBernoulli
from distributions.flow import FlowDistribution
from distributions.full_normal import FullNormal
from distributions.labelled import LabelledImages
from distributions.logistic import DiscretisedLogistic
from distributions.mixture import Mixture
from distributions.normal import DiagonalNormal

__all__ = [
    "AutoregressiveCodes",
    "BernoulliVector",
    "Codes",
    "ContinuousBernoulli",
    "DiagonalNormal",
    "DiscretisedLogistic",
    "FlowDistribution",
    "FullNormal",
    "LabelledImages",
    "LinearBernoulli",
    "Mixture",
    "Quantised",
]
