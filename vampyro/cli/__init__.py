"""Variational auto-encoders as Pyro programs.

python run.py                                        a VAE on 5,000 digits, from data to figures
python run.py --prior vamp --flow planar:5           with a VampPrior over planar-flow posteriors
python run.py --dataset mnist --prior vamp:500       downloads MNIST first
python run.py --resume runs/NAME                     goes on where that run stopped
python run.py score runs/NAME --prior aggregate      scores it again, here under the aggregated posterior as the prior
python run.py sample runs/NAME --count 64            draws images; where labels were given, --label 7 sevens
python run.py export runs/NAME --images 10          posterior draws, for ArviZ
python run.py sweep --vary prior=mog:5,mog:10        a run for each value, one table and one picture of all
python run.py reproduce --list                       published experiments that one command repeats
python run.py --help                                 every flag and its default
"""

import importlib
import os
import sys
from collections.abc import Sequence

from vampyro.catalogue.parts import command
from vampyro.cli.startup import check_environment, open_closed_streams
from vampyro.errors import UserError, choose, shorten
from vampyro.runs.signals import status, terminable, watch_parent

# The first word of the command line; without one, train.
JOBS = {name: f"vampyro.cli.{name}" for name in ("train", "score", "sample", "export", "sweep", "reproduce")}


def main(argv: Sequence[str] | None = None) -> str | int | None:
    """Run the job that the command line names; return an exit status, or the line of an error."""
    open_closed_streams()
    watch_parent()
    argv = sys.argv[1:] if argv is None else argv
    words = [] if not argv or argv[0].startswith("-") else [argv[0]]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal or a file, in whose alphabet there may be no "±"
            stream.reconfigure(errors="backslashreplace")
    try:
        job = choose("job", words[0], list(JOBS)) if words else "train"
        if not {"-h", "--help"} & set(argv):  # help is there to be read, whatever the environment
            check_environment(job)
        with terminable(), command:
            failed = importlib.import_module(JOBS[job]).main(argv[len(words) :])
            return shorten(f"error: {failed}") if failed else None
    except (UserError, FloatingPointError) as error:
        return shorten(f"error: {error}")
    except BrokenPipeError:  # the reader of what is printed has gone, `head` for example
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as stop:
        return status(stop)
