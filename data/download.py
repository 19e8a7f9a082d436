"""Downloads, from mirrors."""

import sys

import pooch
from requests import RequestException

from data.error import DataError

TIMEOUT = (5, 30)  # seconds to connect, and between two pieces: without a network, it shows at once

pooch.get_logger().setLevel("WARNING")


def fetch(path, urls, checksum):
    """Downloads `path` from the first of `urls` that has it, unless the file is there.

    The file appears whole and checked, or not at all. A progress bar shows on a terminal.

    Args:
        checksum: "sha256:…" or "md5:…", of the file as it is served.

    Raises:
        DataError: where no address has the file.
        OSError: where `path` cannot be written.
    """
    if path.exists():
        return
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
