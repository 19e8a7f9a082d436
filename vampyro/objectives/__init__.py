"""What training maximises: the ELBO and its relatives, for real and discrete latents."""

from vampyro.objectives.base import Differentiable, Objective
from vampyro.objectives.discrete import Relaxed, StraightThrough, TraceEnum_ELBO, TraceGraph_ELBO
from vampyro.objectives.elbo import IWAE, Trace_ELBO, TraceMeanField_ELBO
from vampyro.objectives.introspective import Introspective
from vampyro.objectives.kl_weight import KLWeight, ScaleLatents

__all__ = [
    "Differentiable",
    "IWAE",
    "Introspective",
    "KLWeight",
    "Objective",
    "Relaxed",
    "ScaleLatents",
    "StraightThrough",
    "TraceEnum_ELBO",
    "TraceGraph_ELBO",
    "TraceMeanField_ELBO",
    "Trace_ELBO",
]
