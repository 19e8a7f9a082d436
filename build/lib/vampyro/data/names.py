"""Names of data sets and kinds of files: checked without importing torch, so that an error comes at once."""

import os
import stat
from difflib import get_close_matches
from pathlib import Path

from vampyro.errors import SpecError, quote

NAMES = ("mnist5k", "static-mnist", "mnist", "fashion-mnist", "omniglot", "omniglot-small", "caltech101")


SAVE = "numpy.savez('images.npz', train=x[:-2000], valid=x[-2000:-1000], test=x[-1000:])"


PICTURES = "x = numpy.stack([numpy.asarray(PIL.Image.open(f)) for f in sorted(glob.glob('FOLDER/*.png'))])"


COLOUR = "for colour pictures also x = x.transpose(0, 3, 1, 2)"


# How to make an .npz file of other files. x holds images (N, height, width) or (N, channels, height, width).
CONVERSIONS = {
    ".npy": f"convert it: x = numpy.load('FILE.npy'); {SAVE}",
    **dict.fromkeys(
        (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
        f"collect all pictures in one file: {PICTURES}; {COLOUR}; {SAVE}",
    ),
    **dict.fromkeys((".csv", ".txt", ".amat"), f"convert it: x = numpy.loadtxt('FILE').reshape(-1, 28, 28); {SAVE}"),
}


def is_npz(name: str) -> bool:
    """Whether the name is that of an .npz file, in capital letters too."""
    return name.lower().endswith(".npz")


def check_source(name: str) -> None:
    """Reject what is neither the name of a data set nor a readable FILE.npz.

    Raises:
        SpecError: says what was given, what is supported and how to convert a file of another kind.

    >>> check_source("mnist5k")
    >>> check_source("MNIST")    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vampyro.errors.SpecError: no data set 'MNIST', did you mean 'mnist'? There are mnist5k, ..., or FILE.npz
    """
    if name in NAMES:
        return
    close = get_close_matches(name.strip().lower().replace("_", "-"), NAMES, 1)
    hint = f", did you mean {close[0]!r}? There" if close else "; there"
    known = f"{hint} are {', '.join(NAMES)}, or FILE.npz"
    mode = _mode(name)
    if mode is None:
        if is_npz(name):
            where = "" if os.path.isabs(os.path.expanduser(name)) else f" in {os.getcwd()}"
            raise SpecError(f"cannot read {quote(name)}: No such file or directory{where}; expected an .npz file")
        raise SpecError(f"no data set {quote(name)}{known}")
    if stat.S_ISDIR(mode):
        raise SpecError(
            f"no data set {quote(name)}{known}. There is a folder of that name, and folders are not supported: "
            f"save its pictures in one file: {PICTURES}; {COLOUR}; {SAVE}"
        )
    if not stat.S_ISREG(mode):
        raise SpecError(f"cannot read {quote(name)}: expected a regular file, FILE.npz")
    if not is_npz(name):
        ending = Path(name).suffix
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


def _mode(name):
    """What there is at a path, as `os.stat` has it; None for nothing.

    Raises:
        SpecError: where the path cannot be followed.
    """
    try:
        return os.stat(os.path.expanduser(name)).st_mode
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # a loop of links, a name too long; the second for a null byte
        raise SpecError(f"cannot read {quote(name)}: {getattr(error, 'strerror', error)}") from None
