"""OMNIGLOT's two small background sets (Lake, Salakhutdinov & Tenenbaum 2015): eight alphabets, from the drawings."""

import io
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from vampyro.data.download import Arrays, provide, remember
from vampyro.data.image_set import ImageSet, split_arrays

MIRRORS = (
    "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
    "https://github.com/brendenlake/omniglot/raw/master/python/",
)
SHA256 = {
    "images_background_small1.zip": "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
    "images_background_small2.zip": "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
}
FIRST = {"train": 1, "valid": 15, "test": 17}  # of the 20 drawings of each character, the first in the split
# 28 × 105: each row averages 3.75 neighbours. Four copies of every old pixel make a row of 28 times 15.
AVERAGE = np.repeat(np.eye(28), 15, axis=1).reshape(28, 105, 4).sum(2) / 15


def load(root: Path) -> ImageSet:
    """3,388 / 484 / 968 grey characters, 28×28, from `root`/omniglot/*.zip; labels are alphabets in order of name.

    Ink is 1 where a stroke fills the pixel: each averages the area of the 105×105 drawing that it covers.

    Twenty people drew each of 242 characters, and the drawings' numbers split them: 1 to 14 are training images, 15
    and 16 validation, 17 to 20 test. So every split has all characters, and testing is on new drawings of them. Within
    a split, the lowest number of every character comes first. The zips share 1,000 drawings, which count once.
    """
    return ImageSet.from_arrays("omniglot-small", remember("omniglot-small", SHA256, lambda: _parse(root)), SHA256)


def _parse(root: Path) -> Arrays:
    drawings: dict[tuple[int, str, str], np.ndarray] = {}
    for name, sha256 in SHA256.items():
        urls = [mirror + name for mirror in MIRRORS]
        drawings |= _drawings(provide(root / "omniglot" / name, urls, f"sha256:{sha256}"))
    keys = sorted(drawings)
    alphabets = sorted({alphabet for _, alphabet, _ in keys})
    images = np.stack([shrunk(drawings[key]) for key in keys])[:, None]
    labels = np.array([alphabets.index(alphabet) for _, alphabet, _ in keys])
    split_of = np.searchsorted(list(FIRST.values()), [number for number, _, _ in keys], "right") - 1
    return split_arrays(images, labels, {split: split_of == place for place, split in enumerate(FIRST)})


def _drawings(raw: bytes) -> dict[tuple[int, str, str], np.ndarray]:
    """(number of the drawing, alphabet, character) → 105×105 ink, from SET/ALPHABET/CHARACTER/…_NUMBER.png."""
    drawings = {}
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        for name in archive.namelist():
            path = PurePosixPath(name)
            if path.suffix == ".png":
                _, alphabet, character, _ = path.parts
                with Image.open(io.BytesIO(archive.read(name))) as image:
                    drawings[int(path.stem.split("_")[1]), alphabet, character] = ~np.array(image.convert("1"))
    return drawings


def shrunk(ink: np.ndarray) -> np.ndarray:
    """A 105×105 picture of False and True as 28×28 bytes, by the share of each new pixel's area that is True.

    >>> shrunk(np.arange(105) < np.full((105, 1), 13))[0, :5]  # 13 of 15 quarters of the fourth pixel
    array([255, 255, 255, 119,   0], dtype=uint8)
    """
    return np.rint(255 * (AVERAGE @ ink @ AVERAGE.T)).astype(np.uint8)
