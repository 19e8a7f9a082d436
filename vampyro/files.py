"""Files that are either whole or not there, and TOML files."""

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@contextmanager
def replacing(path: Path, parents: bool = True) -> Iterator[Path]:
    """Yield a temporary path, which becomes `path` when the block ends and vanishes if it fails.

    `parents` makes the folder of the path where there is none.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")  # two processes may write the same path
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, parents: bool = True) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` when the block ends, and vanishes if it fails.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "folder" / "file"
    >>> with writing(path) as file:
    ...     _ = file.write(b"whole")
    >>> path.read_bytes()
    b'whole'
    """
    with replacing(path, parents) as temporary, temporary.open("wb") as file:
        yield file


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the content of a TOML file; an OSError or a ValueError where it cannot be read."""
    with open(path, "rb") as file:
        return tomllib.load(file)
