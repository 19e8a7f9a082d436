"""Data sets of images: `load` a name of `SOURCES`, or a FILE.npz, to an `ImageSet`."""

import os
from pathlib import Path

import platformdirs

from vampyro.data import caltech101, mnist, mnist5k, npz, omniglot, omniglot_small, static_mnist
from vampyro.data.image_set import ImageSet
from vampyro.data.names import check_folder, check_source
from vampyro.errors import DataError, SpecError

__all__ = ["SOURCES", "DataError", "ImageSet", "load"]

# name → (root: Path) → ImageSet as its source has it, grey or fixed
SOURCES = {
    "mnist5k": mnist5k.load,
    "static-mnist": static_mnist.load,
    "mnist": mnist.load_mnist,
    "fashion-mnist": mnist.load_fashion_mnist,
    "omniglot": omniglot.load,
    "omniglot-small": omniglot_small.load,
    "caltech101": caltech101.load,
}


def load(name, root=None, binarize=None):
    """The data set of that name, downloaded first where it has to be.

    Args:
        name: one of `SOURCES`, or the path of a FILE.npz (see `data.npz`).
        root: folder of the data sets; the user's cache folder unless given. mnist5k and FILE.npz do not use it.
        binarize: "dynamic", "threshold" or "none" (see `ImageSet`); unless given, grey images are binarised
            dynamically, and all others stay as they are: binary ones, and those of several channels.

    Raises:
        DataError: for an unknown name or binarisation, or a file that is missing, or not what it should be, and
            cannot be downloaded or written.
        CapacityError: for a FILE.npz that is larger than the memory that is left.

    >>> load("mnist5k")
    ImageSet(mnist5k: 4000 / 500 / 500 images of 1×28×28, dynamic binarisation)
    >>> load("mnist5k", binarize="none")
    ImageSet(mnist5k: 4000 / 500 / 500 images of 1×28×28, grey)
    >>> load("mnist5")    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vampyro.errors.DataError: no data set 'mnist5', did you mean 'mnist5k'? There are ...
    """
    name = os.fspath(name)
    root = Path(os.path.expanduser(root or platformdirs.user_cache_path("vampyro")))
    try:
        if name in SOURCES:
            check_folder(os.fspath(root))
            images = SOURCES[name](root)
        else:
            check_source(name)
            images = npz.load(name)
    except SpecError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise DataError(f"cannot read or write in {root}: {error}; choose another folder") from error
    grey = not images.binary and images.image_shape[0] == 1
    return images.binarized(binarize or ("dynamic" if grey else "none"))
