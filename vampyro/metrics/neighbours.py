"""Nearest neighbours: the accuracy of classifying codes by them, and the training images next to a sample."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor


def knn_accuracy(
    codes: Tensor, labels: Tensor, test_codes: Tensor | None = None, test_labels: Tensor | None = None, *, k: int = 5
) -> float:
    """Return the share of codes with the label that is most frequent among their k nearest neighbours (Euclidean).

    It shows how well a latent space separates classes. Chance is the share of the largest class. Of labels with equal
    votes the smallest counts.

    Args:
        codes, labels: (N, latent), and (N,) integers; more dimensions of codes are flattened.
        test_codes, test_labels: (M, latent) and (M,), classified by the N codes. Without them each of the N codes is
            classified by all others.
        k: neighbours, at most N, or N - 1 without test codes.

    Raises:
        ValueError: k is larger, or the numbers of codes and labels differ.

    >>> codes = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
    >>> knn_accuracy(codes, torch.tensor([0, 0, 1, 1]), k=1)
    1.0
    >>> knn_accuracy(codes, torch.tensor([0, 0, 1, 1]), torch.tensor([[1.0], [4.0]]), torch.tensor([0, 0]), k=1)
    0.5
    """
    from scipy.stats import mode  # only here: these two take a while
    from sklearn.neighbors import NearestNeighbors

    if (test_codes is None) != (test_labels is None):
        raise ValueError("test codes and test labels belong together: give both, or neither to leave one out at a time")
    for name, x, y in ("", codes, labels), ("test ", test_codes, test_labels):
        if x is not None and y is not None and (x.ndim < 2 or len(x) < 1 or y.shape != x.shape[:1]):
            raise ValueError(
                f"{name}codes are of shape {tuple(x.shape)} and {name}labels of shape {tuple(y.shape)}, "
                "expected (N, latent) and (N,)"
            )
    most = len(codes) - (test_codes is None)
    if not 1 <= k <= most:
        raise ValueError(f"k = {k} neighbours, expected 1 to {most}, as {len(codes)} codes have")
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(_rows(codes))
    rows, y = (None, labels) if test_codes is None or test_labels is None else (_rows(test_codes), test_labels)
    nearest = search.kneighbors(rows, return_distance=False)  # without rows each code is left out in turn
    votes = mode(labels.cpu().numpy()[nearest], axis=1)
    return float((votes.mode == y.cpu().numpy()).mean())


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of N images: `indices` (N, k) int64, nearest first, and Euclidean `distances` (N, k) float64."""

    indices: Int64[Tensor, "n k"]
    distances: Float64[Tensor, "n k"]


def nearest(samples: Float[Tensor, " n *image"], training: Float[Tensor, "m ..."], *, k: int = 1) -> Neighbours:
    """Return the k ≤ M training images nearest to each sample, Euclidean over all pixels, on the CPU.

    This shows copies: their distance is exactly 0, and far smaller than that of test images. Large distances prove
    nothing, as a copy that is moved by a pixel is far away (Theis, van den Oord & Bethge 2016, arXiv:1511.01844).

    Args:
        samples, training: (N, channels, height, width) and (M, channels, height, width).

    Raises:
        ValueError: the shapes differ, there are no samples, or k is not in 1…M.

    >>> training = torch.rand(20, 1, 4, 4)
    >>> nearest(training[[7, 3]], training)
    Neighbours(indices=tensor([[7], [3]]), distances=tensor([[0.], [0.]], dtype=torch.float64))
    """
    from sklearn.neighbors import NearestNeighbors  # only here: it takes a while

    if len(samples) < 1 or samples.shape[1:] != training.shape[1:]:
        raise ValueError(
            f"samples are of shape {tuple(samples.shape)} and training images of shape {tuple(training.shape)}, "
            "expected one image shape, and at least one sample"
        )
    if not 1 <= k <= len(training):
        raise ValueError(f"k = {k} neighbours, expected 1 to {len(training)}, as there are training images")
    x, rows = torch.from_numpy(_rows(samples)), torch.from_numpy(_rows(training))
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(rows.numpy())
    indices = torch.from_numpy(search.kneighbors(x.numpy(), return_distance=False)).long()
    # scikit-learn's ‖x‖² - 2 x·y + ‖y‖² is not exactly 0 for a copy.
    distances = torch.stack([(x - rows[column]).norm(dim=1) for column in indices.T], 1)
    order = distances.argsort(dim=1, stable=True)
    return Neighbours(indices.gather(1, order), distances.gather(1, order))


def _rows(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().flatten(1).numpy()
