"""Variational auto-encoders as Pyro programs.

python run.py                                        train a VAE on 5,000 digits, score it and plot the results
python run.py --prior vamp --flow planar:5           use a VampPrior and posteriors with planar flows
python run.py --dataset mnist --prior vamp:500       download MNIST first
python run.py --resume runs/NAME                     resume a run
python run.py score runs/NAME --prior aggregate      score a run again, with the aggregated posterior as the prior
python run.py sample runs/NAME --count 64            sample images; --label 7 samples sevens from a conditional model
python run.py export runs/NAME --images 10           save posterior samples for ArviZ
python run.py sweep --vary prior=mog:5,mog:10        train a run for each value, and compare them in a table
python run.py reproduce --list                       list published experiments that can be repeated
python run.py --help                                 list all flags and their defaults
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
    """Run the command in argv; return an exit status or an error message."""
    open_closed_streams()
    watch_parent()
    argv = sys.argv[1:] if argv is None else argv
    words = [] if not argv or argv[0].startswith("-") else [argv[0]]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # the encoding of a terminal or a file may lack "±"
            stream.reconfigure(errors="backslashreplace")
    try:
        job = choose("job", words[0], list(JOBS)) if words else "train"
        if not {"-h", "--help"} & set(argv):  # help does not depend on the environment
            check_environment(job)
        with terminable(), command:
            failed = importlib.import_module(JOBS[job]).main(argv[len(words) :])
            return shorten(f"error: {failed}") if failed else None
    except (UserError, FloatingPointError) as error:
        return shorten(f"error: {error}")
    except BrokenPipeError:  # the reader of the output has closed it, for example `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as stop:
        return status(stop)
