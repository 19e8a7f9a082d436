"""MNIST in the one binarisation that Larochelle drew, on which likelihoods are compared in print."""

from pathlib import Path

import numpy as np

from vampyro.data.download import contents, provide, remember
from vampyro.data.image_set import ImageSet
from vampyro.data.names import SPLITS
from vampyro.errors import DataError

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
    urls = [mirror + name for mirror in MIRRORS]
    return provide(
        path,
        urls,
        f"sha256:{SHA256[name]}",
        read=lambda copy: parse(contents(copy, SHA256[name]), pixels=28 * 28).reshape(-1, 1, 28, 28),
        first=[path.with_name(f"{name}.gz")],
    )


def parse(text: bytes, pixels: int) -> np.ndarray:
    """Return lines of digits 0 or 1 with single spaces between them, as booleans (lines, pixels).

    Raises:
        DataError: the text is anything else.

    >>> parse(b"0 1 1\\n1 0 0\\n", pixels=3)
    array([[False,  True,  True],
           [ True, False, False]])
    """
    characters = np.frombuffer(text, np.uint8)
    separators = np.full(pixels, ord(" "), np.uint8)
    separators[-1] = ord("\n")
    if characters.size % (2 * pixels) == 0:  # every digit has one character after it, so that no splitting is needed
        digits, between = characters.reshape(-1, pixels, 2).transpose(2, 0, 1)
        if ((digits == ord("0")) | (digits == ord("1"))).all() and (between == separators).all():
            return digits == ord("1")
    raise DataError(f"expected lines of {pixels} digits 0 or 1 with single spaces between, got {text[:20]!r}…")
