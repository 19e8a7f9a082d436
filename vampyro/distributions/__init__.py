"""Distributions that torch and Pyro lack: mixtures scored by a GEMM, accurate likelihoods of grey images."""

from vampyro.distributions.base import Distribution, pairwise_log_prob
from vampyro.distributions.bernoulli import BernoulliVector, LinearBernoulli
from vampyro.distributions.codes import AutoregressiveCodes, CodeDistribution, Codes, Quantised
from vampyro.distributions.flow import Bijection, FlowDistribution
from vampyro.distributions.grey import ContinuousBernoulli, DiscretisedLogistic
from vampyro.distributions.labelled import LabelledImages
from vampyro.distributions.mixture import Mixture
from vampyro.distributions.normal import DiagonalNormal, FullNormal

__all__ = [
    "AutoregressiveCodes",
    "BernoulliVector",
    "Bijection",
    "CodeDistribution",
    "Codes",
    "ContinuousBernoulli",
    "DiagonalNormal",
    "DiscretisedLogistic",
    "Distribution",
    "FlowDistribution",
    "FullNormal",
    "LabelledImages",
    "LinearBernoulli",
    "Mixture",
    "Quantised",
    "pairwise_log_prob",
]
