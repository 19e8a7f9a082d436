"""Published files: downloaded from mirrors, checked, and kept in parsed form."""

import gzip
import hashlib
import sys
import zlib
from contextlib import suppress

import numpy as np
import platformdirs

from vampyro import files as atomic
from vampyro.errors import DataError


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


TIMEOUT = (5, 30)  # seconds to connect, and between two pieces: without a network, it shows at once


def provide(path, urls, checksum, read, first=()):
    """What `read` makes of the file at `path`, downloaded where it is missing, or damaged: where `read` refuses it.

    A damaged file stays until its successor is whole.

    Args:
        urls, checksum: as in `fetch`.
        read: path → anything; raises a DataError that says what is wrong with the file.
        first: other paths that may have the contents, tried before `path`.

    Raises:
        DataError: where no copy can be read and none be downloaded; says why of each.
        OSError: where `path` is missing and cannot be written.
    """
    faults = []
    for copy in (*first, path):
        if copy.exists():
            try:
                if not copy.is_file():
                    raise DataError(f"{copy} is not a regular file")
                return read(copy)
            except DataError as fault:
                faults.append(str(fault))
    try:
        fetch(path, urls, checksum)
    except (DataError, OSError) as error:
        if not faults:
            raise
        raise DataError("\n".join([*faults, f"and it cannot be replaced: {error}"])) from error
    return read(path)


def fetch(path, urls, checksum):
    """Downloads `path` from the first of `urls` that has it, unless a file of that checksum is there.

    The file appears whole and checked, in place of any other of its name, or not at all. A progress bar shows on
    a terminal.

    Args:
        checksum: "sha256:…" or "md5:…", of the file as it is served.

    Raises:
        DataError: where no address has the file.
        OSError: where `path` cannot be written.
    """
    import pooch  # only here: data that are on disk already need neither package
    from requests import RequestException

    pooch.get_logger().setLevel("WARNING")
    tried = []
    for url in urls:
        try:
            downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT)
            pooch.retrieve(url, checksum, fname=path.name, path=path.parent, downloader=downloader)
            return
        except (RequestException, ValueError) as error:  # not to be had there, or not what it should be
            tried.append(f"  {url}: {error}")
    raise DataError(
        f"cannot download {path.name}, tried\n" + "\n".join(tried) + f"\nPut the file at {path.absolute()} by hand, "
        "or use the data set mnist5k, which needs no download."
    )
