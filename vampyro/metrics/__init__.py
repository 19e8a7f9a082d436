"""Metrics of samples, reconstructions, codes and scores that log-likelihoods do not show.

All take tensors, which may come from any model: images (N, channels, height, width) in [0, 1], codes (N, latent),
scores (N,).
"""

from vampyro.metrics.classes import class_distribution, entropy, total_variation
from vampyro.metrics.classifier import Classifier, accuracy, cached_classifier, features, train_classifier
from vampyro.metrics.frechet import classifier_frechet_distance
from vampyro.metrics.neighbours import Neighbours, knn_accuracy, nearest
from vampyro.metrics.outliers import auroc, noise_images

__all__ = [
    "Classifier",
    "Neighbours",
    "accuracy",
    "auroc",
    "cached_classifier",
    "class_distribution",
    "classifier_frechet_distance",
    "entropy",
    "features",
    "knn_accuracy",
    "nearest",
    "noise_images",
    "total_variation",
    "train_classifier",
]
