"""MNIST in the one binarisation that Larochelle drew, on which likelihoods are compared in print."""

from pathlib import Path

import numpy as np

from vampyro.data.download import provide, remember
from vampyro.data.image_set import ImageSet
from vampyro.data.names import SPLITS

MIRRORS = (
    "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
    "https://raw.githubusercontent.com/riannevdberg/sylvester-flows/master/data/MNIST_static/",
)
SHA256 = {
    "binarized_mnist_train.amat": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "binarized_mnist_valid.amat": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "binarized_mnist_test.amat": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}


def load(root: Path) -> ImageSet:
    """50,000 / 10,000 / 10,000 images without labels, from `root`/static_mnist/*.amat or *.amat.gz."""
    arrays = remember("static-mnist", SHA256, lambda: {split: _read(root, split) for split in SPLITS})
    return ImageSet.from_arrays("static-mnist", arrays, SHA256)


def _read(root: Path, split: str) -> np.ndarray:
    name = f"binarized_mnist_{split}.amat"
    path = root / "static_mnist" / name
    urls, zipped = [mirror + name for mirror in MIRRORS], path.with_name(f"{name}.gz")
    text = provide(path, urls, f"sha256:{SHA256[name]}", first=[zipped])
    # Lines of digits 0 or 1: every digit has one character after it, a space or the end of the line.
    return (np.frombuffer(text, np.uint8)[::2] == ord("1")).reshape(-1, 1, 28, 28)
