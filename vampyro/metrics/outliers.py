"""Whether log p̂(x) tells images of the data from others."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vampyro.programs.randomness import seeded


def auroc(inside: Tensor, outside: Tensor) -> float:
    """P(s > s') + ½ P(s = s') for scores s of the data and s' of others: the area under the ROC curve.

    1 where every image of the data scores above every other, ½ where scores say nothing, below ½ where a model finds
    the others likelier than its own data, as likelihoods do (Nalisnick et al. 2019, arXiv:1810.09136).

    Args:
        inside: (N,) scores of images of the data, log p̂(x) say: `vampyro.likelihood.score(…).log_likelihood`.
        outside: (M,) scores of others, of the same kind and number of samples S.

    Raises:
        ValueError: one of them is empty, not one-dimensional, or holds a NaN.

    >>> auroc(torch.tensor([-80.0, -90.0]), torch.tensor([-85.0, -500.0]))
    0.75
    """
    from sklearn.metrics import roc_auc_score  # only here: it takes a while

    for name, scores in ("inside", inside), ("outside", outside):
        if scores.ndim != 1 or len(scores) < 1 or scores.isnan().any():
            found = f"of shape {tuple(scores.shape)} with {scores.isnan().sum()} NaN"
            raise ValueError(f"{name} scores are {found}, expected (N,) and none")
    scores = torch.cat([inside.detach().double().cpu(), outside.detach().double().cpu()])
    ranks = scores.unique(return_inverse=True)[1]  # all that counts, and log 0 = -inf has one
    return float(roc_auc_score(np.repeat([1, 0], [len(inside), len(outside)]), ranks.numpy()))


def noise_images(image_shape: Sequence[int], count: int, *, seed: int = 0, values: str = "binary") -> Tensor:
    """Images without any structure: every pixel uniform over its values and independent of all others.

    Args:
        seed: of the pixels; the caller's generators go on as if nothing had run.
        values: what pixels may be, as `ImageSet.values` says: "binary" 0 or 1, "levels" k/255, "unit" [0, 1).

    Returns:
        (count, *image_shape) float32, on the CPU.

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
