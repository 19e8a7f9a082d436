"""Training and scoring of any pair of Pyro programs (model, guide)."""

from inference.ais import AnnealedScore, ais
from inference.anneal import KLWeight, ScaleLatents
from inference.bdmc import Bounds, bdmc
from inference.early_stopping import EarlyStopping
from inference.elbo import IWAE, Trace_ELBO, TraceMeanField_ELBO, elbo_parts
from inference.fit import fit
from inference.importance import log_weights, score
from inference.registered import registered
from inference.rng import seeded
from inference.schedule import Cooldown
from inference.step import make_update
from inference.weights import Score

__all__ = [
    "IWAE",
    "AnnealedScore",
    "Bounds",
    "Cooldown",
    "EarlyStopping",
    "KLWeight",
    "ScaleLatents",
    "Score",
    "TraceMeanField_ELBO",
    "Trace_ELBO",
    "ais",
    "bdmc",
    "elbo_parts",
    "fit",
    "log_weights",
    "make_update",
    "registered",
    "score",
    "seeded",
]
