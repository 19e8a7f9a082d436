"""Invertible maps with a tractable log-determinant, one file each.

The direction is that of Pyro: a map takes a sample of the base to a sample of the posterior. A flow is a module whose
`forward(h)` returns such a map, a `Bijection`. At trained scales (4 or 5 layers, 40 latents) float32 is off by 5e-6 in
points, in both directions, of a spline by 3e-5; a log-determinant by at most 5e-5.
"""

from vampyro.flows.coupling import CouplingFlow
from vampyro.flows.iaf import IAFFlow
from vampyro.flows.planar import PlanarFlow
from vampyro.flows.radial import RadialFlow
from vampyro.flows.spline import SplineFlow
from vampyro.flows.sylvester import SylvesterFlow
from vampyro.flows.transform import Bijection, Flow

__all__ = ["Bijection", "CouplingFlow", "Flow", "IAFFlow", "PlanarFlow", "RadialFlow", "SplineFlow", "SylvesterFlow"]
