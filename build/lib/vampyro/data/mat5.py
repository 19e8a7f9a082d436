"""The numeric arrays of a MATLAB file, version 5, and nothing else of it.

scipy reads all of the format, but a damaged file can crash it, and with it Python: its parser looks numbers of the file
up in C without asking whether they can be. Here every length and every code of a type is checked.
"""

import math
import struct
import zlib

import numpy as np

HEADER = 128


MATRIX, COMPRESSED = 14, 15


# Codes of how numbers are stored, and of what they were in MATLAB.
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}


CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


COMPLEX = 0x800


def arrays(raw):
    """{name: array} of the file's real numeric matrices; what else it holds is passed over.

    Raises:
        ValueError, KeyError, IndexError, struct.error or zlib.error: where the bytes are no such file.

    >>> import io
    >>> from scipy.io import savemat
    >>> file = io.BytesIO()
    >>> savemat(file, {"x": np.arange(6.0).reshape(2, 3), "name": "text"})
    >>> arrays(file.getvalue())
    {'x': array([[0., 1., 2.],
           [3., 4., 5.]])}
    """
    order = {b"IM": "<", b"MI": ">"}.get(raw[HEADER - 2 : HEADER])
    if order is None:
        raise ValueError("it has no header of a MATLAB file of version 5")
    found = {}
    for kind, content in _elements(raw[HEADER:], order):
        if kind == COMPRESSED:
            kind, content = next(_elements(zlib.decompress(content), order))
        if kind == MATRIX:
            found |= _matrix(content, order)
    return found


def _elements(raw, order):
    """(code, bytes) of each element; a short one has its bytes in its own tag, a long one is filled up to 8."""
    place = 0
    while place < len(raw):
        kind, size = struct.unpack_from(order + "II", raw, place)
        if short := kind >> 16:
            kind, size, place, after = kind & 0xFFFF, short, place + 4, place + 8
        else:
            place += 8
            after = place + size + (0 if kind == COMPRESSED else -size % 8)
        if place + size > len(raw):
            raise ValueError("it is cut off")
        yield kind, raw[place : place + size]
        place = after


def _matrix(raw, order):
    """{name: array}, empty where it is no real numeric matrix."""
    parts = _elements(raw, order)
    flags = _numbers(*next(parts, (6, b"")), order)[0]
    if flags & 0xFF not in CLASSES or flags & COMPLEX:
        return {}
    shape = _numbers(*next(parts, (5, b"")), order).tolist()
    name = bytes(next(parts, (1, b""))[1]).decode("ascii")
    values = _numbers(*next(parts, (9, b"")), order)
    if min(shape, default=0) < 0 or math.prod(shape) != len(values):
        raise ValueError(f"{name} has {len(values)} numbers for a shape of {tuple(shape)}")
    dtype = CLASSES[flags & 0xFF]
    if dtype[0] != "f" and values.dtype.kind == "f":
        raise ValueError(f"{name} holds fractions as whole numbers")
    return {name: values.astype(dtype).reshape(shape, order="F")}


def _numbers(kind, raw, order):
    return np.frombuffer(raw, order + STORED[kind])
