"""Invertible maps with a tractable log-determinant, one file each.

Direction, said once: forward = base → sample, as in Pyro. A flow module's `forward(h)` returns a
`torch.distributions.Transform` that maps (..., latent) → (..., latent). The transform remembers its last
pair, so scoring one's own sample is free, and inverts exactly when asked about anything else.

A transform is a `flows.transform.Bijection`: `push` and `pull` compute the map, or its inverse, with the
log-determinant. It has

    `batch_shape`: that of its parameters; () says that one map serves every point.
    `pairwise_log_prob(base, z)`, optional: the density of all components' images at all points, where
    algebra beats broadcasting.
"""

from vampyro.flows.coupling import CouplingFlow
from vampyro.flows.iaf import IAFFlow
from vampyro.flows.planar import PlanarFlow
from vampyro.flows.radial import RadialFlow
from vampyro.flows.spline import SplineFlow
from vampyro.flows.sylvester import SylvesterFlow
from vampyro.flows.transform import Bijection, Flow

__all__ = ["Bijection", "CouplingFlow", "Flow", "IAFFlow", "PlanarFlow", "RadialFlow", "SplineFlow", "SylvesterFlow"]
