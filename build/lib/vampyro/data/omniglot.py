"""OMNIGLOT at 28×28, in the file that Burda, Grosse & Salakhutdinov (arXiv:1509.00519) published with their code."""

import hashlib

import numpy as np
import torch

from vampyro.data import download as cache
from vampyro.data import matlab
from vampyro.data.download import provide
from vampyro.data.image_set import ImageSet
from vampyro.data.validate import as_levels
from vampyro.errors import DataError

URLS = (
    "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat",
    "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat",
)


MD5 = "21ecaf34373511aa7691cf2e0802aa3d"


ALPHABETS = 50


TRAIN, VALID, TEST = 23_000, 1_345, 8_070


SEED = 0


def load(root):
    """23,000 / 1,345 / 8,070 grey characters, 28×28, from `root`/omniglot/chardata.mat; labels are alphabets, 0 to 49.

    The file's 24,345 training images are permuted by `numpy.random.RandomState(0)`, a seed of our own, and the last
    1,345 are validation. The sizes are those of the literature, the images in them are not: there, each program and
    often each run draws its own. Test images are the file's.

    A download has to have the md5 that other users of the file check. Its authors gave no digest, so a file that was
    put there by hand is taken if it has the right arrays; `sha256` of the data set says which file it was.
    """
    return provide(root / "omniglot" / "chardata.mat", URLS, f"md5:{MD5}", _read)


def _read(path):
    raw = path.read_bytes()
    sha256 = {path.name: hashlib.sha256(raw).hexdigest()}
    arrays = cache.remember("omniglot", sha256, lambda: parse(path, raw))
    order = torch.from_numpy(np.random.RandomState(SEED).permutation(TRAIN + VALID))
    parts = {"train": ("train", order[:TRAIN]), "valid": ("train", order[TRAIN:]), "test": ("test", slice(None))}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    labels = "train_labels" in tensors
    return ImageSet(
        "omniglot",
        **{split: tensors[part][indices] for split, (part, indices) in parts.items()},
        labels={split: tensors[f"{part}_labels"][i] for split, (part, i) in parts.items()} if labels else {},
        sha256=sha256,
    )


def parse(path, raw):
    """Images and, where the file has them, labels, in the file's order: a dict of arrays, as the cache wants it."""
    columns = matlab.read(
        path,
        raw,
        shapes={"data": (784, TRAIN + VALID), "testdata": (784, TEST)},
        optional={"target": (ALPHABETS, TRAIN + VALID), "testtarget": (ALPHABETS, TEST)},
    )
    images = {}
    for part, name in ("train", "data"), ("test", "testdata"):
        images[part] = matlab.pictures(columns[name].T.astype(np.float32))
        low, high = images[part].min(), images[part].max()
        if not 0 <= low <= high <= 1:  # NaN is neither
            raise DataError(f"{path} is not the published file: {name} is in [{low:g}, {high:g}], expected [0, 1]")
    arrays = as_levels(images)
    for part, name in ("train", "target"), ("test", "testtarget"):
        if name in columns:
            if not (np.isin(columns[name], (0, 1)).all() and (columns[name].sum(0, dtype=int) == 1).all()):
                raise DataError(f"{path} is not the published file: {name} has columns that are not one-hot")
            arrays[f"{part}_labels"] = columns[name].argmax(0).astype(np.int64)
    return arrays
