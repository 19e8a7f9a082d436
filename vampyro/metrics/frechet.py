"""The distance between features of samples and of data."""

import torch
from jaxtyping import Float
from torch import Tensor

from vampyro.metrics.classifier import Classifier, features


def classifier_frechet_distance(
    classifier: Classifier, images: Float[Tensor, " n *image"], samples: Float[Tensor, " m *image"]
) -> float:
    """Return ‖m - m'‖² + tr(C + C' - 2 (C C')^½) ≥ 0, of means and covariances of a classifier's d features.

    This is the formula of the Fréchet Inception distance (Heusel et al. 2017, arXiv:1706.08500) on the penultimate
    layer of *this* classifier. The values are comparable for the same trained classifier only, and not with a published
    FID. They are biased upwards, more so for fewer images, so compare equal numbers of images: many times d, at least
    d + 1. The distance between two halves of the data is a reference for zero.

    Args:
        images, samples: (N, channels, height, width) and (M, channels, height, width), both binary or both grey.

    Raises:
        ValueError: there are not more images or samples than features, or they are not finite.

    >>> x = torch.rand(50, 1, 4, 4)
    >>> classifier_frechet_distance(Classifier((1, 4, 4), hidden=8), x, x) < 1e-6
    True
    """
    moments = []
    for name, batch in ("images", images), ("samples", samples):
        if not batch.isfinite().all():
            raise ValueError(f"the {name} have pixels that are not finite, expected [0, 1]")
        h = features(classifier, batch).double().cpu()
        if len(h) <= (size := h.shape[1]):
            raise ValueError(
                f"{len(h)} {name} give no covariance of {size} features: expected at least {size + 1}, or better ten "
                "times as many; draw more, or train a classifier with fewer hidden units"
            )
        moments.append((h.mean(0), h.T.cov()))
    (mean, covariance), (mean_, covariance_) = moments
    # C C' has the eigenvalues of the symmetric Sᵀ C' S, where C = S Sᵀ: real, and not negative but for rounding.
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt()
    product = torch.linalg.eigvalsh(root.T @ covariance_ @ root).clamp(min=0)
    distance = (mean - mean_).square().sum() + covariance.trace() + covariance_.trace() - 2 * product.sqrt().sum()
    return max(0.0, distance.item())  # rounding may leave it just below
