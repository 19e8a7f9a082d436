"""Plots: functions from tensors or numbers to a matplotlib Figure."""

from vampyro.plots.images import (
    beside_nearest,
    class_bars,
    convergence,
    image_grid,
    pareto_k,
    reconstructions,
    score_histograms,
    training_curves,
)
from vampyro.plots.latents import component_bars, gap_bars, kl_bars, latent_plane, rate_distortion_curve, tsne_map
from vampyro.plots.sweeps import error_bars, error_curves

__all__ = [
    "beside_nearest",
    "class_bars",
    "component_bars",
    "convergence",
    "error_bars",
    "error_curves",
    "gap_bars",
    "image_grid",
    "kl_bars",
    "latent_plane",
    "pareto_k",
    "rate_distortion_curve",
    "reconstructions",
    "score_histograms",
    "training_curves",
    "tsne_map",
]
