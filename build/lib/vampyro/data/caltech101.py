"""Caltech 101 Silhouettes: outlines of objects, filled, by Marlin, Swersky, Chen & de Freitas (AISTATS 2010)."""

import hashlib

import numpy as np
import torch

from vampyro.data import download as cache
from vampyro.data import matlab
from vampyro.data.download import provide
from vampyro.data.image_set import ImageSet, as_bytes
from vampyro.data.validate import SPLITS
from vampyro.errors import DataError

FILE = "caltech101_silhouettes_28_split1.mat"


URLS = (
    f"https://people.cs.umass.edu/~marlin/data/{FILE}",
    f"http://people.cs.umass.edu/~marlin/data/{FILE}",
)


MD5 = "4483e9c14b188fd09937f9ea6f9ea777"


NAMES = {"train": "train", "valid": "val", "test": "test"}  # split → what the file calls it


COUNTS = {"train": 4_100, "valid": 2_264, "test": 2_307}


CLASSES = 101


def load(root):
    """4,100 / 2,264 / 2,307 silhouettes, 28×28, the published split, from `root`/caltech101/; labels 0 to 100.

    Binary, with 1 where the object is. The file has 0 there: its pictures are black on white.

    A download has to have the md5 that DeepMind's NEVIS'22 checks. The authors gave no digest, so a file that was put
    there by hand is taken if it has the right arrays; `sha256` of the data set says which file it was.
    """
    return provide(root / "caltech101" / FILE, URLS, f"md5:{MD5}", _read)


def _read(path):
    raw = path.read_bytes()
    sha256 = {path.name: hashlib.sha256(raw).hexdigest()}
    arrays = {
        name: torch.from_numpy(a) for name, a in cache.remember("caltech101", sha256, lambda: parse(path, raw)).items()
    }
    return ImageSet(
        "caltech101",
        **{split: as_bytes(arrays[split]) for split in SPLITS},
        labels={split: arrays[f"{split}_labels"] for split in SPLITS if f"{split}_labels" in arrays},
        binarize="fixed",
        sha256=sha256,
    )


def parse(path, raw):
    """Bits and, where the file has them, labels: a dict of arrays, as the cache wants it."""
    rows = matlab.read(
        path,
        raw,
        shapes={f"{NAMES[split]}_data": (count, 784) for split, count in COUNTS.items()},
        optional={f"{NAMES[split]}_labels": (count, 1) for split, count in COUNTS.items()},
    )
    arrays = {}
    for split, name in NAMES.items():
        pixels, labels = rows[f"{name}_data"], rows.get(f"{name}_labels")
        if not ((pixels == 0) | (pixels == 1)).all():
            raise DataError(f"{path} is not the published file: {name}_data has other values than 0 and 1")
        arrays[split] = matlab.pictures(pixels == 0)
        if labels is not None:
            if not ((labels >= 1) & (labels <= CLASSES)).all():
                raise DataError(f"{path} is not the published file: {name}_labels are not all in 1..{CLASSES}")
            arrays[f"{split}_labels"] = labels[:, 0].astype(np.int64) - 1
    return arrays
