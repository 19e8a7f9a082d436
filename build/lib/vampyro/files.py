"""Files that are either whole or not there."""

import os
import uuid
from contextlib import contextmanager


@contextmanager
def writing(path):
    """A binary file that becomes `path` when the block ends, and vanishes if it fails; makes the folder too.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "folder" / "file"
    >>> with writing(path) as file:
    ...     _ = file.write(b"whole")
    >>> path.read_bytes()
    b'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")  # two processes may write the same path
    try:
        with temporary.open("wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
