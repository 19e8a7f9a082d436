"""Parsed sources, packed, so that the second time they load at once."""

from contextlib import suppress

import numpy as np
import platformdirs

from data import atomic


def folder():
    """Where the packed arrays are."""
    return platformdirs.user_cache_path("vampyro") / "packed"


def remember(name, sha256, parse):
    """What `parse` returns, a dict of arrays; from the cache if it has been parsed before.

    A packed file is named by the digests of the sources it was made from, so it is never stale, and it is enough:
    the sources need not be there any more. Boolean arrays take one bit an element.

    Args:
        name: of the data set.
        sha256: file → hex digest, of the sources.
        parse: () → dict of arrays.
    """
    path = folder() / ("-".join([name, *(digest[:8] for digest in sha256.values())]) + ".npz")
    with suppress(Exception):  # missing, or damaged in any of the ways of zip files and arrays: made again
        return _read(path)
    arrays = parse()
    with suppress(OSError):  # a folder that cannot be written costs time, and nothing else
        _write(path, arrays)
    return arrays


def _write(path, arrays):
    packed = {}
    for name, array in arrays.items():
        if array.dtype == bool:
            packed[f"{name}.bits"], packed[f"{name}.shape"] = np.packbits(array), array.shape
        else:
            packed[name] = array
    with atomic.writing(path) as file:
        np.savez(file, **packed)


def _read(path):
    arrays = {}
    with path.open("rb") as file, np.load(file, allow_pickle=False) as packed:
        for key in packed:
            name, _, part = key.partition(".")
            if part == "bits":
                shape = packed[f"{name}.shape"]
                bits = np.unpackbits(packed[key], count=shape.prod())
                arrays[name] = bits.reshape(shape).view(bool)
            elif not part:
                arrays[name] = packed[key]
    return arrays
