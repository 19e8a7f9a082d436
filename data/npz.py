"""A user's own images, in a FILE.npz."""

import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import torch

from data.error import DataError
from data.imageset import ImageSet
from data.levels import as_levels
from data.splits import SPLITS

EXPECTED = "expected an .npz file as numpy.savez(FILE, train=…, valid=…, test=…) writes it"


def load(name):
    """The images of an .npz file.

    Its arrays are `train`, `valid` and `test`, of shape (N, height, width) or (N, channels, height, width), all three
    uint8 in 0..255, or float in [0, 1], or bool; and, if there are labels, integer `train_labels`, `valid_labels` and
    `test_labels`, of shape (N,). Images that are 0 and 255, 0 and 1, or False and True throughout are binary. Floats
    that are all some k/255 are kept as the bytes k.

    Raises:
        DataError: where the file is missing, damaged, or anything else.

    >>> import tempfile
    >>> name = tempfile.mkdtemp() + "/noise.npz"
    >>> noise = np.random.rand(10, 3, 8, 6)
    >>> np.savez(name, train=noise, valid=noise, test=noise)
    >>> load(name).image_shape
    (3, 8, 6)
    """
    try:
        raw = Path(os.path.expanduser(name)).read_bytes()
    except (OSError, ValueError) as error:  # the second for a zero byte in the name
        raise DataError(f"cannot read {name}: {getattr(error, 'strerror', error)}; {EXPECTED}") from error
    if not zipfile.is_zipfile(io.BytesIO(raw)):
        raise DataError(f"{name} is not a zip file; {EXPECTED}")
    arrays = _arrays(name, raw)
    labels = {split: _labels(name, split, arrays) for split in SPLITS if f"{split}_labels" in arrays}
    images, binary = _images(name, arrays)
    return ImageSet(
        name,
        **images,
        labels=labels,
        binarize="fixed" if binary else "none",
        sha256={Path(name).name: hashlib.sha256(raw).hexdigest()},
    )


def _arrays(name, raw):
    try:
        # No pickles: a file from a stranger must not run code here.
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            arrays = dict(archive)
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                raise ValueError("a member is no array")
    except Exception as error:  # zipfile, zlib and numpy each have several for a damaged file
        raise DataError(f"{name} is damaged, or holds more than plain arrays ({error}); {EXPECTED}") from error
    missing = [split for split in SPLITS if split not in arrays]
    if missing:
        raise DataError(f"{name} has no {', '.join(missing)}, but {', '.join(arrays) or 'nothing'}; {EXPECTED}")
    return arrays


def _images(name, arrays):
    """Each split as the tensor that an `ImageSet` wants, and whether they are binary."""
    images = {split: _numbers(f"{name}: {split}", arrays[split]) for split in SPLITS}
    dtypes = {str(array.dtype) for array in images.values()}
    if len(dtypes) > 1:
        raise DataError(f"{name} mixes {' and '.join(sorted(dtypes))}: save train, valid and test as one dtype")
    # "Grey levels up to 255" of which none is above 1 are bits.
    top = 255 if max(array.max(initial=0) for array in images.values()) > 1 and dtypes == {"uint8"} else 1
    binary = all(((array == 0) | (array == top)).all() for array in images.values())
    if binary:
        images = {split: np.uint8(255) * (array == top) for split, array in images.items()}
    else:
        images = as_levels(images)
    return {split: torch.from_numpy(np.ascontiguousarray(array)) for split, array in images.items()}, binary


def _numbers(what, array):
    """(N, channels, height, width) in uint8 or float32."""
    if array.ndim not in (3, 4):
        raise DataError(
            f"{what} is of shape {array.shape}, expected (N, height, width) or (N, channels, height, width)"
        )
    if array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        raise DataError(
            f"{what} is of shape {array.shape} and seems to have its channels last, expected "
            "(N, channels, height, width): save array.transpose(0, 3, 1, 2)"
        )
    if array.ndim == 3:
        array = array[:, None]
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is refused later
            return array.astype(np.float32)
    if array.dtype in (np.bool_, np.uint8):
        return array.astype(np.uint8)
    raise DataError(f"{what} is {array.dtype}, expected uint8 in 0..255, float in [0, 1], or bool")


def _labels(name, split, arrays):
    labels = arrays[f"{split}_labels"]
    if labels.dtype.kind not in "iu":
        raise DataError(f"{name}: {split}_labels are {labels.dtype}, expected integers")
    return torch.from_numpy(labels.astype(np.int64))
