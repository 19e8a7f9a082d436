"""Training and scoring of any pair of Pyro programs (model, guide)."""

from inference.active_units import ActiveUnits, active_units
from inference.ais import AnnealedScore, ais
from inference.anneal import KLWeight, ScaleLatents
from inference.bdmc import Bounds, bdmc
from inference.code_use import code_use
from inference.components import ComponentUse, component_use
from inference.decomposition import Decomposition, decompose, rate_distortion
from inference.diagnose import diagnose
from inference.discrete import Relaxed, StraightThrough, TraceEnum_ELBO, TraceGraph_ELBO
from inference.early_stopping import EarlyStopping
from inference.elbo import IWAE, Trace_ELBO, TraceMeanField_ELBO, elbo_parts
from inference.estimate import Estimate
from inference.fit import fit
from inference.gaps import Gaps, gaps
from inference.importance import log_weights, score
from inference.introspective import Introspective
from inference.local import LocalGuide
from inference.points import points_of, validation
from inference.posterior import PosteriorDraws, posterior_draws
from inference.proposal import NormalProposal, scoring_guide
from inference.registered import registered
from inference.rng import seeded
from inference.schedule import Cooldown
from inference.scores import Score
from inference.step import make_update
from inference.surgery import Surgery, surgery

__all__ = [
    "ActiveUnits",
    "AnnealedScore",
    "Bounds",
    "ComponentUse",
    "Cooldown",
    "Decomposition",
    "EarlyStopping",
    "Estimate",
    "Gaps",
    "IWAE",
    "Introspective",
    "KLWeight",
    "LocalGuide",
    "NormalProposal",
    "PosteriorDraws",
    "ScaleLatents",
    "Relaxed",
    "Score",
    "StraightThrough",
    "Surgery",
    "TraceEnum_ELBO",
    "TraceGraph_ELBO",
    "TraceMeanField_ELBO",
    "Trace_ELBO",
    "active_units",
    "ais",
    "bdmc",
    "code_use",
    "component_use",
    "decompose",
    "diagnose",
    "elbo_parts",
    "fit",
    "gaps",
    "log_weights",
    "make_update",
    "points_of",
    "posterior_draws",
    "rate_distortion",
    "registered",
    "score",
    "scoring_guide",
    "seeded",
    "surgery",
    "validation",
]
