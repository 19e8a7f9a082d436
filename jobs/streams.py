"""The standard streams of a process that was started without some of them."""

import os
import sys


def open_closed_streams() -> None:
    """Connect each standard stream that is closed (`2>&-` in a shell) to the null device.

    Otherwise Python has None in its place, which no progress bar can write to. The next file that is opened, a
    checkpoint for example, would also get the stream's number, and what a library writes there would end up in it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        mode = "r" if name == "stdin" else "w"
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))
