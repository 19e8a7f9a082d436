"""Measures of samples, reconstructions, codes and scores: what log-likelihoods do not say.

Everything takes tensors, so that they may come from any model: images (N, channels, height, width) in [0, 1],
codes (N, latent), scores (N,).
"""

from measures.cached import cached_classifier
from measures.classes import class_distribution, entropy, total_variation
from measures.classifier import Classifier, accuracy, features, train_classifier
from measures.frechet import classifier_frechet_distance
from measures.neighbours import Neighbours, knn_accuracy, nearest
from measures.outliers import auroc, noise_images

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
