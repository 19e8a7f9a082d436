"""Estimates of log p(x), by importance sampling and by annealing, and their reliability."""

from vampyro.likelihood.ais import AnnealedScore, Bounds, ais, bdmc
from vampyro.likelihood.importance import log_weights, score
from vampyro.likelihood.posterior_draws import PosteriorDraws, posterior_draws
from vampyro.likelihood.proposal import NormalProposal, scoring_guide
from vampyro.likelihood.scores import Score

__all__ = [
    "AnnealedScore",
    "Bounds",
    "NormalProposal",
    "PosteriorDraws",
    "Score",
    "ais",
    "bdmc",
    "log_weights",
    "posterior_draws",
    "score",
    "scoring_guide",
]
