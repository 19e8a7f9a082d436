"""One training process at a time in a folder."""

import os
import platform
from contextlib import suppress
from pathlib import Path

NAME = ".lock"


class Locked(Exception):
    """Another process holds the lock; says which."""


class Lock:
    """The right to write in a folder, until `release` or until this process ends, however it does.

    The system holds the lock, not the file: a dead process leaves the file, which bars nobody. Where the system has
    no locks (Windows, some network drives) there is none.

    Raises:
        Locked: where another process has it, or another Lock of this one.
        OSError: where the folder cannot be written.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> lock = Lock(folder)
    >>> Lock(folder)    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jobs.lock.Locked: process ... on ...
    >>> lock.release(); Lock(folder).release(); os.listdir(folder)
    []
    """

    def __init__(self, folder):
        self.path = Path(folder) / NAME
        while True:
            self.file = self.path.open("a+b", buffering=0)
            try:
                _lock(self.file)
                if os.path.samestat(os.fstat(self.file.fileno()), self.path.stat()):
                    break
            except BlockingIOError:
                self.file.seek(0)
                holder = self.file.read().decode(errors="replace")
                self.file.close()
                raise Locked(holder or "another process") from None
            except FileNotFoundError:
                pass
            self.file.close()  # its holder took it away between our opening and our locking it
        with suppress(OSError):  # a full disk costs the name, not the lock
            self.file.truncate(0)
            self.file.write(f"process {os.getpid()} on {platform.node()}".encode())

    def release(self):
        """Takes the file away, too; once is enough."""
        if not self.file.closed:
            with suppress(OSError):
                self.path.unlink()
            self.file.close()


def _lock(file):
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):
        pass
