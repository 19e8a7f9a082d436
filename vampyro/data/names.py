"""The rows of the data sets. Reading them and checking a name imports no torch, so that errors come at once."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from vampyro.errors import SpecError, quote

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class DataSet:
    """The row of a data set: what is known of it without loading it.

    Attributes:
        help: a few words for `--help`.
        load: a function of the folder of the data sets that returns the `ImageSet`, grey or binary as its source is;
            or "module:function" of a module in this folder, which is imported when the data set is loaded.
        counts: numbers of training, validation and test images.
        cite: the publication of the images in this form.
        image_shape: (channels, height, width).
        classes: number of labels, 0 to classes - 1; None for a data set without labels.
        binarize: binarisation unless the user asks for another; "none" for a source that is binary.
        labelled_as: data sets of the same images with labels, best first, for a data set that has none.
    """

    name: str
    help: str
    load: str | Callable[[Path], Any]
    counts: tuple[int, int, int]
    cite: str
    image_shape: tuple[int, int, int] = (1, 28, 28)
    classes: int | None = None
    binarize: str = "dynamic"
    labelled_as: tuple[str, ...] = ()

    def loader(self) -> Callable[[Path], Any]:
        """Return the function that loads the data set.

        >>> DATA_SETS["fashion-mnist"].loader().__name__
        'load_fashion_mnist'
        """
        if not isinstance(self.load, str):
            return self.load
        module, _, function = self.load.partition(":")
        return getattr(import_module(f"vampyro.data.{module}"), function)


_LECUN = "LeCun, Bottou, Bengio & Haffner 1998"
_LAKE = "Lake, Salakhutdinov & Tenenbaum 2015"
_ROWS = (
    DataSet("mnist5k", "5,000 digits, included", "mnist5k:load", (4_000, 500, 500), _LECUN, classes=10),
    DataSet(
        "static-mnist", "binary digits", "static_mnist:load", (50_000, 10_000, 10_000), "Larochelle & Murray 2011",
        binarize="none", labelled_as=("mnist", "mnist5k"),
    ),
    DataSet("mnist", "digits", "mnist:load_mnist", (50_000, 10_000, 10_000), _LECUN, classes=10),
    DataSet(
        "fashion-mnist", "clothes", "mnist:load_fashion_mnist", (50_000, 10_000, 10_000),
        "Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747", classes=10,
    ),
    DataSet(
        "omniglot", "characters", "omniglot:load", (23_000, 1_345, 8_070),
        f"{_LAKE}; the images of Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519", classes=50,
    ),
    DataSet("omniglot-small", "8 alphabets", "omniglot_small:load", (3_388, 484, 968), _LAKE, classes=8),
    DataSet(
        "caltech101", "silhouettes", "caltech101:load", (4_100, 2_264, 2_307),
        "Marlin, Swersky, Chen & de Freitas 2010", classes=101, binarize="none",
    ),
)  # fmt: skip
DATA_SETS = {row.name: row for row in _ROWS}


@contextmanager
def known_data_sets(rows: Iterable[DataSet]) -> Iterator[None]:
    """Inside, a user's data sets stand next to ours.

    Raises:
        SpecError: where there is one of that name.
    """
    added = {row.name: row for row in rows}
    if taken := sorted(added.keys() & DATA_SETS.keys()):
        raise SpecError(f"there is a data set {taken[0]!r} already; choose another name")
    DATA_SETS.update(added)
    try:
        yield
    finally:
        for name in added:
            DATA_SETS.pop(name, None)


# How to make an .npz file of other files. x holds images (N, height, width) or (N, channels, height, width).
SAVE = "numpy.savez('images.npz', train=x[:-2000], valid=x[-2000:-1000], test=x[-1000:])"
PICTURES = "x = numpy.stack([numpy.asarray(PIL.Image.open(f)) for f in sorted(glob.glob('FOLDER/*.png'))])"
COLOUR = "for colour pictures also x = x.transpose(0, 3, 1, 2)"
CONVERSIONS = {
    ".npy": f"convert it: x = numpy.load('FILE.npy'); {SAVE}",
    **dict.fromkeys(
        (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
        f"collect all pictures in one file: {PICTURES}; {COLOUR}; {SAVE}",
    ),
    **dict.fromkeys((".csv", ".txt", ".amat"), f"convert it: x = numpy.loadtxt('FILE').reshape(-1, 28, 28); {SAVE}"),
}


def describe_names() -> str:
    """Return the names and their help, for `--help`."""
    return ", ".join(f"{row.name} ({row.help})" for row in DATA_SETS.values())


def check_source(name: str) -> None:
    """Reject what is neither the name of a data set nor a readable FILE.npz.

    Raises:
        SpecError: says what was given, what is supported and how to convert a file of another kind.

    >>> check_source("mnist5k")
    >>> check_source("MNIST")    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vampyro.errors.SpecError: no data set 'MNIST', did you mean 'mnist'? There are mnist5k, ..., or FILE.npz
    """
    if name in DATA_SETS:
        return
    close = get_close_matches(name.strip().lower().replace("_", "-"), DATA_SETS, 1)
    hint = f", did you mean {close[0]!r}? There" if close else "; there"
    unknown = f"no data set {quote(name)}{hint} are {', '.join(DATA_SETS)}, or FILE.npz"
    mode, ending = _mode(name), Path(name).suffix
    if mode is None:
        if ending.lower() != ".npz":
            raise SpecError(unknown)
        where = "" if os.path.isabs(os.path.expanduser(name)) else f" in {os.getcwd()}"
        raise SpecError(f"cannot read {quote(name)}: No such file or directory{where}; expected an .npz file")
    if stat.S_ISDIR(mode):
        raise SpecError(
            f"{unknown}. There is a folder of that name, and folders are not supported: "
            f"save its pictures in one file: {PICTURES}; {COLOUR}; {SAVE}"
        )
    if not stat.S_ISREG(mode):
        raise SpecError(f"cannot read {quote(name)}: expected a regular file, FILE.npz")
    if ending.lower() != ".npz":
        how = CONVERSIONS.get(ending.lower(), f"load its images into a numpy array x, then {SAVE}")
        raise SpecError(f"{quote(name)} is not an .npz file, and {ending or 'such'} files are not supported: {how}")
    if not os.access(os.path.expanduser(name), os.R_OK):
        raise SpecError(f"cannot read {quote(name)}: Permission denied")


def check_folder(folder: str) -> None:
    """Reject a folder of data sets that cannot be read; one that does not exist yet is made by the first download.

    Raises:
        SpecError: says why.
    """
    mode = _mode(folder)
    if mode is not None and not stat.S_ISDIR(mode):
        raise SpecError(f"{quote(folder)} is a file, expected a folder of data sets: choose another folder")
    if mode is not None and not os.access(os.path.expanduser(folder), os.R_OK | os.X_OK):
        raise SpecError(f"cannot read {quote(folder)}: Permission denied; choose another folder")


def _mode(name: str) -> int | None:
    """Return the mode of what is at a path, as `os.stat` has it, or None where there is nothing.

    Raises:
        SpecError: the path cannot be followed.
    """
    try:
        return os.stat(os.path.expanduser(name)).st_mode
    except FileNotFoundError:
        return None
    except OSError as error:  # a loop of links, a name too long
        raise SpecError(f"cannot read {quote(name)}: {error.strerror}") from None
    except ValueError as error:  # a null byte
        raise SpecError(f"cannot read {quote(name)}: {error}") from None
