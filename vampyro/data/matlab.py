"""MATLAB files of 28×28 pictures, read by scipy behind a checksum."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vampyro.data.download import Arrays, contents, provide, remember
from vampyro.data.image_set import ImageSet
from vampyro.errors import DataError

Shapes = Mapping[str, tuple[int, int]]


def load(
    name: str, path: Path, urls: Sequence[str], md5: str, shapes: Shapes, parse: Callable[[Arrays], Arrays]
) -> ImageSet:
    """Return the data set of a published file, downloaded where it is missing or where another file is at `path`.

    Args:
        md5: of the file. scipy never sees another one: a damaged file can crash its parser, and Python with it.
        shapes: array → shape, of the arrays to read.
        parse: these arrays → those of `ImageSet.from_arrays`.
    """

    def read_file(path: Path) -> ImageSet:
        raw = contents(path, md5, "md5")
        sha256 = {path.name: hashlib.sha256(raw).hexdigest()}
        return ImageSet.from_arrays(name, remember(name, sha256, lambda: parse(read(path, raw, shapes))), sha256)

    return provide(path, urls, f"md5:{md5}", read_file)


def read(path: Path, raw: bytes, shapes: Shapes) -> Arrays:
    """Return the named arrays of a .mat file.

    Raises:
        DataError: an array is missing, or its shape is another.
    """
    from scipy.io import loadmat

    arrays = loadmat(io.BytesIO(raw), variable_names=list(shapes))
    for name, shape in shapes.items():
        found = arrays[name].shape if name in arrays else "missing"
        if found != shape:
            raise DataError(f"{path} is not the published file: array {name!r} is {found}, expected {shape}")
    return arrays


def pictures(rows: np.ndarray) -> np.ndarray:
    """Return rows of 784 pixels, column after column as MATLAB stores a picture, as (N, 1, 28, 28).

    >>> pictures(np.arange(784)[None])[0, 0, :2, :2]
    array([[ 0, 28],
           [ 1, 29]])
    """
    return np.ascontiguousarray(rows.reshape(-1, 1, 28, 28).swapaxes(2, 3))
