"""Downloads, from mirrors."""

import sys

from data.error import DataError

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
