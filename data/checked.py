"""Source files are read only if they are the published ones."""

import gzip
import hashlib
import zlib

from data.error import DataError


def contents(path, sha256):
    """The bytes of a file, uncompressed where its name ends in .gz.

    Args:
        sha256: hex digest of the uncompressed contents.

    Raises:
        DataError: where the file is damaged, or another.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    actual = hashlib.sha256(raw).hexdigest()
    if actual != sha256:
        raise DataError(f"{path} is not the published file: its contents' sha256 is {actual}, expected {sha256}")
    return raw
