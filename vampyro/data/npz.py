"""A user's own images, in a FILE.npz."""

import hashlib
import io
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vampyro.data import validate
from vampyro.data.download import Arrays
from vampyro.data.image_set import ImageSet
from vampyro.data.names import SPLITS
from vampyro.data.validate import as_levels
from vampyro.errors import CapacityError, DataError
from vampyro.memory import check_fits

EXPECTED = "expected an .npz file as numpy.savez(FILE, train=…, valid=…, test=…) writes it"
LABELS = tuple(f"{split}_labels" for split in SPLITS)
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
REMEDY = "save fewer images, or uint8 in place of float"


def load(name: str) -> ImageSet:
    """Return the images of an .npz file.

    Its arrays are `train`, `valid` and `test`, of shape (N, height, width) or (N, channels, height, width), all three
    uint8 in 0..255, or float in [0, 1], or bool; and, if there are labels, integer `train_labels`, `valid_labels` and
    `test_labels`, of shape (N,). Images that are 0 and 255, 0 and 1, or False and True throughout are binary. Floats
    that are all some k/255 are kept as the bytes k. Shapes and types are checked before anything is unpacked, and
    other arrays of the file are not unpacked.

    Raises:
        DataError: the file is missing, damaged, or holds anything else.
        CapacityError: it is too large for the memory that is left.

    >>> import tempfile
    >>> name = tempfile.mkdtemp() + "/noise.npz"
    >>> noise = np.random.rand(10, 3, 8, 6)
    >>> np.savez(name, train=noise, valid=noise, test=noise)
    >>> load(name).image_shape
    (3, 8, 6)
    """
    path = Path(os.path.expanduser(name))
    try:
        check_fits(name, path.stat().st_size, REMEDY)
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror}; {EXPECTED}") from error
    if not zipfile.is_zipfile(io.BytesIO(raw)):
        raise DataError(f"{name} is not a zip file; {EXPECTED}")
    arrays = _read(name, raw)
    labels = {key: arrays[key] for key in LABELS if key in arrays}
    for key, array in labels.items():
        if array.max(initial=0) > np.iinfo(np.int64).max:
            raise DataError(f"{name}: {key} has {array.max()}, expected numbers of classes, from 0 on")
    images = _as_images({split: arrays[split] for split in SPLITS})
    arrays = images | {key: array.astype(np.int64) for key, array in labels.items()}
    return ImageSet.from_arrays(name, arrays, {path.name: hashlib.sha256(raw).hexdigest()})


class Header(NamedTuple):
    """What an array of the file says of itself: its member's name, shape and dtype."""

    member: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _read(name: str, raw: bytes) -> Arrays:
    """{name: array} of the arrays that are used, checked by their headers before any is unpacked."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
        headers = _headers(archive)
        if missing := [split for split in SPLITS if split not in headers]:
            raise DataError(f"{name} has no {', '.join(missing)}, but {', '.join(headers) or 'nothing'}; {EXPECTED}")
        headers = {key: header for key, header in headers.items() if key in (*SPLITS, *LABELS)}
        _check_images(name, {split: headers[split] for split in SPLITS})
        for key, header in headers.items():
            if key in LABELS and header.dtype.kind not in "iu":
                raise DataError(f"{name}: {key} are {header.dtype}, expected integers: save {key}.astype('int64')")
        pixels = sum(math.prod(headers[split].shape) for split in SPLITS)  # copied as float32, or as bytes
        check_fits(name, sum(header.nbytes for header in headers.values()) + 4 * pixels, REMEDY)
        return {key: _unpacked(archive, header) for key, header in headers.items()}
    except (DataError, CapacityError):
        raise
    except Exception as error:  # zipfile, zlib and numpy each have several for a damaged file
        raise DataError(f"{name} is damaged, or holds more than plain arrays ({error}); {EXPECTED}") from error


def _headers(archive: zipfile.ZipFile) -> dict[str, Header]:
    """{name: Header} of all members.

    No pickles: a file from a stranger must not run code here.

    Raises:
        ValueError: a member is not a plain array, or its size is not what its header says.
    """
    headers: dict[str, Header] = {}
    for info in archive.infolist():
        key = info.filename.removesuffix(".npy")
        with archive.open(info) as file:
            reader = READERS.get(np.lib.format.read_magic(file))
            if reader is None:
                raise ValueError(f"{key} is a structured array")
            shape, _, dtype = reader(file)
            size = info.file_size - file.tell()
        header = Header(info.filename, shape, dtype)
        if dtype.hasobject or dtype.names:
            raise ValueError(f"{key} is an array of {'Python objects' if dtype.hasobject else 'records'}")
        if size != header.nbytes:
            raise ValueError(f"{key} has {size} bytes, and a shape that takes {header.nbytes}")
        if key in headers:
            raise ValueError(f"{key} is there twice")
        headers[key] = header
    return headers


def _unpacked(archive: zipfile.ZipFile, header: Header) -> np.ndarray:
    with archive.open(header.member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        file.read()  # to the end, where zipfile compares checksums
    return array


def _check_images(name: str, headers: Mapping[str, Header]) -> None:
    """Raise a DataError where the splits' shapes and types are not those of images."""
    for split, header in headers.items():
        what, shape, dtype = f"{name}: {split}", header.shape, header.dtype
        if len(shape) not in (3, 4):
            raise DataError(f"{what} is of shape {shape}, expected (N, height, width) or (N, channels, height, width)")
        if len(shape) == 4:
            validate.check_shape(shape, what)
        if dtype.kind != "f" and dtype not in (np.bool_, np.uint8):
            remedy = "save array.astype('float32') where it holds numbers"
            if dtype.kind in "iu":
                levels = f", else (array / {np.iinfo(dtype).max}).astype('float32')" if dtype.itemsize == 2 else ""
                remedy = f"save array.astype('uint8') where its values are 0..255{levels}"
            elif dtype.kind == "c":
                remedy = "save array.real or abs(array)"
            raise DataError(f"{what} is {dtype}, expected uint8 in 0..255, float in [0, 1], or bool: {remedy}")
    kinds = {header.dtype.kind: str(header.dtype) for header in headers.values()}
    if len(kinds) > 1:
        raise DataError(f"{name} mixes {' and '.join(sorted(kinds.values()))}: save train, valid and test as one dtype")


def _as_images(arrays: Arrays) -> Arrays:
    """Return each split as (N, channels, height, width) in uint8 or float32; in bool where all are binary."""
    images = {split: array[:, None] if array.ndim == 3 else array for split, array in arrays.items()}
    if images["train"].dtype.kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is rejected later
            images = {split: array.astype(np.float32) for split, array in images.items()}
    # Bytes of which none is above 1 are bits.
    in_bytes = images["train"].dtype == np.uint8
    top = 255 if in_bytes and max(array.max(initial=0) for array in images.values()) > 1 else 1
    if all(((array == 0) | (array == top)).all() for array in images.values()):
        images = {split: array == top for split, array in images.items()}
    return {split: np.ascontiguousarray(array) for split, array in as_levels(images).items()}
