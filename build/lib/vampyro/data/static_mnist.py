"""MNIST in the one binarisation that Larochelle drew, on which likelihoods are compared in print."""

import numpy as np
import torch

from vampyro.data import download as cache
from vampyro.data.download import contents, provide
from vampyro.data.image_set import ImageSet, as_bytes
from vampyro.data.validate import SPLITS
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


def load(root):
    """50,000 / 10,000 / 10,000 images without labels, from `root`/static_mnist/*.amat or *.amat.gz."""
    bits = cache.remember("static-mnist", SHA256, lambda: {split: _read(root, split) for split in SPLITS})
    images = {split: as_bytes(torch.from_numpy(bits[split])).reshape(-1, 1, 28, 28) for split in SPLITS}
    return ImageSet("static-mnist", **images, binarize="fixed", sha256=dict(SHA256))


def _read(root, split):
    name = f"binarized_mnist_{split}.amat"
    path = root / "static_mnist" / name
    return provide(
        path,
        [mirror + name for mirror in MIRRORS],
        f"sha256:{SHA256[name]}",
        read=lambda copy: parse(contents(copy, SHA256[name]), pixels=28 * 28),
        first=[path.with_name(f"{name}.gz")],
    )


def parse(text, pixels):
    """Lines of digits 0 or 1 with single spaces between them, as booleans (lines, pixels).

    Raises:
        DataError: where the text is anything else.

    >>> parse(b"0 1 1\\n1 0 0\\n", pixels=3)
    array([[False,  True,  True],
           [ True, False, False]])
    """
    characters = np.frombuffer(text, np.uint8)
    separators = np.full(pixels, ord(" "), np.uint8)
    separators[-1] = ord("\n")
    if characters.size % (2 * pixels) == 0:  # every digit has one character after it, so that no splitting is needed
        lines = characters.reshape(-1, pixels, 2)
        digits = lines[:, :, 0]
        if ((digits == ord("0")) | (digits == ord("1"))).all() and (lines[:, :, 1] == separators).all():
            return digits == ord("1")
    raise DataError(f"expected lines of {pixels} digits 0 or 1 with single spaces between, got {text[:20]!r}…")
