"""Detection of images that are not from the data, by log p̂(x)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vampyro.programs.randomness import seeded


def auroc(inside: Tensor, outside: Tensor) -> float:
    """Return P(s > s') + ½ P(s = s'), the area under the ROC curve, for scores s of the data and s' of other images.

    It is 1 where each image of the data has a higher score than all others, and ½ where scores do not separate them.
    Likelihoods can give less than ½ (Nalisnick et al. 2019, arXiv:1810.09136).

    Args:
        inside, outside: (N,) and (M,) scores, for example `vampyro.likelihood.score(…).log_likelihood`, both with the
            same number of samples S.

    Raises:
        ValueError: one of them is empty, not one-dimensional, or has a NaN.

    >>> auroc(torch.tensor([-80.0, -90.0]), torch.tensor([-85.0, -500.0]))
    0.75
    """
    from sklearn.metrics import roc_auc_score  # only here: it takes a while

    for name, scores in ("inside", inside), ("outside", outside):
        if scores.ndim != 1 or len(scores) < 1 or scores.isnan().any():
            found = f"of shape {tuple(scores.shape)} with {scores.isnan().sum()} NaN"
            raise ValueError(f"{name} scores are {found}, expected (N,) and none")
    scores = torch.cat([inside.detach().double().cpu(), outside.detach().double().cpu()])
    ranks = scores.unique(return_inverse=True)[1]  # the order is all that counts, and -inf has a rank
    return float(roc_auc_score(np.repeat([1, 0], [len(inside), len(outside)]), ranks.numpy()))


def noise_images(image_shape: Sequence[int], count: int, *, seed: int = 0, values: str = "binary") -> Tensor:
    """Return images (count, *image_shape) of independent uniform pixels, float32, on the CPU.

    Args:
        values: those of a pixel, as in `ImageSet.values`: "binary" 0 or 1, "levels" k/255, "unit" [0, 1).

    Raises:
        ValueError: `values` is another word, or `count` is below 1.

    >>> noise_images((1, 2, 2), 100).unique()
    tensor([0., 1.])
    """
    if count < 1:
        raise ValueError(f"{count} images of noise: at least one is needed")
    if values not in ("binary", "levels", "unit"):
        raise ValueError(f"noise of values {values!r}: expected binary, levels or unit, as ImageSet.values says")
    with seeded(seed):
        if values == "unit":
            return torch.rand(count, *image_shape)
        top = 1 if values == "binary" else 255
        return torch.randint(top + 1, (count, *image_shape)).float().div_(top)
