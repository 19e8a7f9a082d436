"""Child processes that end when their parent does, however the parent ends."""

import os
import signal
import threading
import time

WATCHED = "VAMPYRO_ENDS_WITH_STDIN"  # set for a child whose standard input is a pipe that its parent holds
GRACE = 5  # seconds for an orphan to end in good order


def watch_parent() -> None:
    """In a child that was started with WATCHED: stop, as SIGTERM does, when its standard input ends.

    The system closes the parent's end of the pipe even after kill -9. An orphan that went on would hold the lock of
    its folder, and the parent's command could not be started again.
    """
    if os.environ.pop(WATCHED, None):
        threading.Thread(target=_wait_and_stop, daemon=True).start()


def _wait_and_stop() -> None:
    try:
        while os.read(0, 1024):
            pass
    except OSError:  # as good as its end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(128 + signal.SIGTERM)
