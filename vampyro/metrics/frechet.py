"""How far the features of samples are from those of data."""

import torch
from jaxtyping import Float
from torch import Tensor

from vampyro.metrics.classifier import Classifier, features


def classifier_frechet_distance(
    classifier: Classifier, images: Float[Tensor, " n *image"], samples: Float[Tensor, " m *image"]
) -> float:
    """‖m - m'‖² + tr(C + C' - 2 (C C')^½), of the means and covariances of a classifier's features.

    The formula of the Fréchet Inception distance (Heusel et al. 2017, arXiv:1706.08500) on the penultimate layer of
    *this* classifier, not of the Inception network: its figures compare with those of the same trained classifier
    alone, and with no published FID. It is biased upwards, the more so the fewer images there are, so compare at
    equal numbers. The distance between two halves of the data says what is as good as zero.

    A covariance of d features has full rank from d + 1 images on, and is a good estimate with many times as many;
    with fewer the distance says more of their number than of them.

    Args:
        classifier: its `features` are (N, …) → (N, d).
        images: of the data, (N, channels, height, width).
        samples: (M, channels, height, width), of the same kind: compare draws with bits, and means with grey images.

    Returns:
        a float, 0 or more, in squared units of the features.

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
                f"{len(h)} {name} give no covariance of {size} features: at least {size + 1} are needed, "
                "better ten times as many; draw more, or train a classifier with fewer hidden units"
            )
        moments.append((h.mean(0), h.T.cov()))
    (mean, covariance), (mean_, covariance_) = moments
    # C C' has the eigenvalues of the symmetric Sᵀ C' S, where C = S Sᵀ: real, and not negative but for rounding.
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt()
    product = torch.linalg.eigvalsh(root.T @ covariance_ @ root).clamp(min=0)
    distance = (mean - mean_).square().sum() + covariance.trace() + covariance_.trace() - 2 * product.sqrt().sum()
    return max(0.0, distance.item())  # rounding may leave it just below
