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
TIMEOUT = (5, 30)  # seconds to connect, and to wait for more data


def contents(path: Path, checksum: str) -> bytes:
    """Return the bytes of a file, uncompressed if its name ends in .gz.

    Args:
        checksum: "sha256:…" or "md5:…", of the uncompressed contents.

    Raises:
        DataError: if the file is damaged, or is another file.
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
    """Return the arrays of `parse()`, from the cache if they are there.

    The name of a file in the cache contains the digests of its sources. So it is never out of date, and the sources are
    no longer needed.

    Args:
        name: the name of the data set.
        sha256: {file: hexadecimal digest} of the sources.
        parse: () → {name: array}.
    """
    path = folder() / ("-".join([name, *(digest[:8] for digest in sha256.values())]) + ".npz")
    with suppress(Exception), np.load(path, allow_pickle=False) as archive:
        return dict(archive)
    # The file is missing or damaged.
    arrays: dict[str, Any] = parse()
    with suppress(OSError), files.writing(path) as file:  # without a cache this only takes longer
        np.savez(file, **arrays)
    return arrays


def provide(
    path: Path, urls: Iterable[str], checksum: str, unpacked: str | None = None, first: Iterable[Path] = ()
) -> bytes:
    """Return the `contents` of a published file, and download it if it is missing or damaged.

    A damaged file is replaced when the download is complete.

    Args:
        urls, checksum: as in `fetch`.
        unpacked: checksum of the contents if the file is compressed.
        first: other paths that may have the contents, tried before `path`.

    Raises:
        DataError: if no copy can be read or downloaded, with the reason for each.
        OSError: if `path` is missing and cannot be written.
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
    """Download `path` from the first of `urls` that has it, unless a file with this checksum exists.

    The file is written only if it is complete and has the right checksum. A terminal shows a progress bar.

    Args:
        checksum: "sha256:…" or "md5:…", of the file on the server.

    Raises:
        DataError: if no address has the file.
        OSError: if `path` cannot be written.
    """
    import pooch  # imported here, because data on disk need neither package
    from requests import RequestException

    pooch.get_logger().setLevel("WARNING")
    tried = []
    for url in urls:
        try:
            downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT)
            pooch.retrieve(url, checksum, fname=path.name, path=path.parent, downloader=downloader)
            return
        except (RequestException, ValueError) as error:  # the file is missing or has another checksum
            tried.append(f"  {url}: {error}")
    raise DataError(
        f"cannot download {path.name}, tried\n" + "\n".join(tried) + f"\nPut the file at {path.absolute()} by hand, "
        "or use the data set mnist5k, which needs no download."
    )
