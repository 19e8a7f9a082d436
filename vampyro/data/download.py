"""Published files: downloaded from mirrors, checked, and kept in parsed form."""

import gzip
import hashlib
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from vampyro import files
from vampyro.errors import DataError

Arrays = dict[str, np.ndarray]
TIMEOUT = (5, 30)  # seconds to connect, and between two pieces: without a network, it shows at once


def contents(path: Path, checksum: str) -> bytes:
    """Return the bytes of a file, uncompressed where its name ends in .gz.

    Args:
        checksum: "sha256:…" or "md5:…", of the uncompressed contents.

    Raises:
        DataError: the file is damaged, or another one.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    algorithm, _, digest = checksum.partition(":")
    actual = hashlib.new(algorithm, raw).hexdigest()
    if actual != digest:
        raise DataError(f"{path} is not the published file: its contents' {algorithm} is {actual}, expected {digest}")
    return raw


def folder() -> Path:
    """Return the folder of the parsed arrays."""
    return platformdirs.user_cache_path("vampyro") / "arrays"


def remember(name: str, sha256: Mapping[str, str], parse: Callable[[], Arrays]) -> Arrays:
    """Return the arrays that `parse` returns; from the cache if it has been called before.

    A file of the cache is named by the digests of the sources it was made from, so it is never stale, and it is enough:
    the sources need not be there any more.

    Args:
        name: of the data set.
        sha256: file → hexadecimal digest, of the sources.
        parse: () → dict of arrays.
    """
    path = folder() / ("-".join([name, *(digest[:8] for digest in sha256.values())]) + ".npz")
    with suppress(Exception), np.load(path, allow_pickle=False) as archive:
        return dict(archive)
    # It is missing, or damaged in any of the ways of zip files and arrays.
    arrays: dict[str, Any] = parse()
    with suppress(OSError), files.writing(path) as file:  # a folder that cannot be written costs time only
        np.savez(file, **arrays)
    return arrays


def provide(
    path: Path, urls: Iterable[str], checksum: str, unpacked: str | None = None, first: Iterable[Path] = ()
) -> bytes:
    """Return the `contents` of a published file, downloaded where it is missing or damaged.

    A damaged file stays until its successor is complete.

    Args:
        urls, checksum: as in `fetch`.
        unpacked: checksum of the contents where the file is compressed.
        first: other paths that may have the contents, tried before `path`.

    Raises:
        DataError: no copy can be read and none can be downloaded; says why for each.
        OSError: `path` is missing and cannot be written.
    """
    faults = []
    for copy in (*first, path):
        if copy.exists():
            try:
                return contents(copy, unpacked or checksum)
            except DataError as fault:
                faults.append(str(fault))
    try:
        fetch(path, urls, checksum)
    except (DataError, OSError) as error:
        if not faults:
            raise
        raise DataError("\n".join([*faults, f"and it cannot be replaced: {error}"])) from error
    return contents(path, unpacked or checksum)


def fetch(path: Path, urls: Iterable[str], checksum: str) -> None:
    """Download `path` from the first of `urls` that has it, unless a file of that checksum is there.

    The file appears complete and checked, in place of any other of its name, or not at all. A progress bar shows on
    a terminal.

    Args:
        checksum: "sha256:…" or "md5:…", of the file as it is served.

    Raises:
        DataError: no address has the file.
        OSError: `path` cannot be written.
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
        except (RequestException, ValueError) as error:  # the file is not there, or not what it should be
            tried.append(f"  {url}: {error}")
    raise DataError(
        f"cannot download {path.name}, tried\n" + "\n".join(tried) + f"\nPut the file at {path.absolute()} by hand, "
        "or use the data set mnist5k, which needs no download."
    )
