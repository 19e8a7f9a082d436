"""MATLAB files of 28×28 images, read by scipy after a check of their checksum."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vampyro.data.download import Arrays, provide, remember
from vampyro.data.image_set import ImageSet


def load(name: str, path: Path, urls: Sequence[str], md5: str, parse: Callable[[Arrays], Arrays]) -> ImageSet:
    """Return the data set of a published file, and download it if `path` is missing or another file.

    Args:
        md5: checksum of the file. It is checked first, because a damaged file can crash scipy's parser and Python.
        parse: arrays of the file → arrays for `ImageSet.from_arrays`.
    """
    raw = provide(path, urls, f"md5:{md5}")
    sha256 = {path.name: hashlib.sha256(raw).hexdigest()}
    return ImageSet.from_arrays(name, remember(name, sha256, lambda: parse(read(raw))), sha256)


def read(raw: bytes) -> Arrays:
    """Return the arrays of a .mat file."""
    from scipy.io import loadmat  # imported here, because data in the cache do not need it

    return loadmat(io.BytesIO(raw))


def pictures(rows: np.ndarray) -> np.ndarray:
    """Return rows of 784 pixels, column after column as MATLAB stores a picture, as (N, 1, 28, 28).

    >>> pictures(np.arange(784)[None])[0, 0, :2, :2]
    array([[ 0, 28],
           [ 1, 29]])
    """
    return np.ascontiguousarray(rows.reshape(-1, 1, 28, 28).swapaxes(2, 3))
