"""Data sets of images: `load` takes a name of `DATA_SETS`, or a FILE.npz, and returns an `ImageSet`."""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from vampyro.data.names import DATA_SETS, DataSet, check_folder, check_source
from vampyro.errors import DataError, SpecError

if TYPE_CHECKING:
    from vampyro.data.image_set import ImageSet

__all__ = ["DATA_SETS", "DataError", "DataSet", "ImageSet", "load"]


def __getattr__(name: str) -> object:
    """Import `ImageSet` when it is first used: the names of data sets are read without torch."""
    if name == "ImageSet":
        return import_module("vampyro.data.image_set").ImageSet
    raise AttributeError(f"module 'vampyro.data' has no attribute {name!r}")


def load(
    name: str | os.PathLike[str], root: str | os.PathLike[str] | None = None, binarize: str | None = None
) -> "ImageSet":
    """Return a data set by its name, and download it if necessary.

    Args:
        name: one of `DATA_SETS`, or the path of a FILE.npz (see `data.npz`).
        root: folder of the data sets, by default the user's cache folder. mnist5k and FILE.npz do not use it.
        binarize: "dynamic", "threshold" or "none" (see `ImageSet`). By default grey images are binarised
            dynamically, and binary images and images with several channels stay as they are.

    Raises:
        DataError: if the name or the binarisation is unknown, or if a file is missing or damaged and cannot be
            downloaded or written.
        CapacityError: if FILE.npz is larger than the available memory.

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
        check_source(name)
        if name in DATA_SETS:
            check_folder(os.fspath(root))
            row = DATA_SETS[name]
            images, default = row.loader()(root), row.binarize
        else:
            images = import_module("vampyro.data.npz").load(name)
            default = "dynamic" if images.kind == "grey" and not images.binary else "none"
    except SpecError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise DataError(f"cannot read or write in {root}: {error}; choose another folder") from error
    return images.with_binarisation(binarize or default)
