"""What torch and Pyro lack: distributions that score every point under every component at the price of a GEMM."""

from distributions.flow import FlowDistribution
from distributions.mixture import Mixture
from distributions.normal import DiagonalNormal

__all__ = ["DiagonalNormal", "FlowDistribution", "Mixture"]
