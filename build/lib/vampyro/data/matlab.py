"""MATLAB files of 28×28 pictures: what is in them is checked, since it decides whether the file is whole."""

import numpy as np

from vampyro.data import mat5
from vampyro.errors import DataError


def read(path, raw, shapes, optional=None):
    """The numeric arrays of a .mat file.

    Args:
        path: of the file, for messages.
        raw: its bytes.
        shapes: name → shape, of the arrays that have to be there.
        optional: the same, of those that may be missing: then all of them are left out.

    Raises:
        DataError: where the file is damaged, or another.
    """
    optional = optional or {}
    try:
        arrays = mat5.arrays(raw)
    except Exception as error:  # struct, zlib and numpy each have their own for a file that is cut off or no such file
        raise DataError(f"{path} is damaged, or not a MATLAB file: {error}") from error
    if all(name in arrays for name in optional):
        shapes = {**shapes, **optional}
    for name, shape in shapes.items():
        if name not in arrays:
            raise DataError(f"{path} is not the published file, or not all of it: it has no array {name!r} of numbers")
        array = arrays[name]
        if not (isinstance(array, np.ndarray) and array.dtype.kind in "buif" and array.shape == shape):
            found = f"{getattr(array, 'dtype', type(array).__name__)} of shape {getattr(array, 'shape', ())}"
            raise DataError(f"{path} is not the published file: {name} is {found}, expected numbers of shape {shape}")
    return {name: arrays[name] for name in shapes}


def pictures(rows):
    """Rows of 784 pixels, column after column as MATLAB stores a picture, as (N, 1, 28, 28).

    >>> pictures(np.arange(784)[None])[0, 0, :2, :2]
    array([[ 0, 28],
           [ 1, 29]])
    """
    return np.ascontiguousarray(rows.reshape(-1, 1, 28, 28).swapaxes(2, 3))
