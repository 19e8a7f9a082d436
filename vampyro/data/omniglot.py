"""OMNIGLOT at 28×28, in the file that Burda, Grosse & Salakhutdinov (arXiv:1509.00519) published with their code."""

from pathlib import Path

import numpy as np

from vampyro.data import matlab
from vampyro.data.download import Arrays
from vampyro.data.image_set import ImageSet, split_arrays
from vampyro.data.names import DATA_SETS, SPLITS
from vampyro.data.validate import as_levels

URLS = (
    "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat",
    "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat",
)
MD5 = "21ecaf34373511aa7691cf2e0802aa3d"  # the authors gave no digest; other users of the file check this one
SEED = 0


def load(root: Path) -> ImageSet:
    """23,000 / 1,345 / 8,070 grey characters, 28×28, from `root`/omniglot/chardata.mat; labels are alphabets, 0 to 49.

    The file's 24,345 training images are permuted by `numpy.random.RandomState(0)`, a seed of our own, and the last
    1,345 are validation. The sizes are those of the literature, the images in them are not: there, each program and
    often each run draws its own. Test images are the file's.
    """
    return matlab.load("omniglot", root / "omniglot" / "chardata.mat", URLS, MD5, _parse)


def _parse(columns: Arrays) -> Arrays:
    train, valid, test = DATA_SETS["omniglot"].counts
    images = np.concatenate([columns["data"], columns["testdata"]], 1).T.astype(np.float32)
    labels = np.concatenate([columns["target"], columns["testtarget"]], 1).argmax(0)  # of one-hot columns
    order = np.random.RandomState(SEED).permutation(train + valid)
    indices = order[:train], order[train:], train + valid + np.arange(test)
    images = as_levels({"all": matlab.pictures(images)})["all"]
    return split_arrays(images, labels, dict(zip(SPLITS, indices)))
