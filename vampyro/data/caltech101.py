"""Caltech 101 Silhouettes (Marlin, Swersky, Chen & de Freitas, AISTATS 2010): filled outlines of objects."""

from pathlib import Path

import numpy as np

from vampyro.data import matlab
from vampyro.data.download import Arrays
from vampyro.data.image_set import ImageSet

FILE = "caltech101_silhouettes_28_split1.mat"
URLS = (
    f"https://people.cs.umass.edu/~marlin/data/{FILE}",
    f"http://people.cs.umass.edu/~marlin/data/{FILE}",
)
MD5 = "4483e9c14b188fd09937f9ea6f9ea777"  # the authors gave no digest; DeepMind's NEVIS'22 checks this one


def load(root: Path) -> ImageSet:
    """4,100 / 2,264 / 2,307 silhouettes, 28×28, the published split, from `root`/caltech101/; labels 0 to 100.

    Binary, with 1 where the object is. The file has 0 there: its pictures are black on white.
    """
    return matlab.load("caltech101", root / "caltech101" / FILE, URLS, MD5, _parse)


def _parse(rows: Arrays) -> Arrays:
    arrays = {}
    for split, part in ("train", "train"), ("valid", "val"), ("test", "test"):
        arrays[split] = matlab.pictures(rows[f"{part}_data"] == 0)
        arrays[f"{split}_labels"] = rows[f"{part}_labels"][:, 0].astype(np.int64) - 1
    return arrays
