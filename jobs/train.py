"""The main job: assemble → fit → score → report."""

import sys
from contextlib import redirect_stdout
from io import StringIO

from jobs import flags


def main(argv):
    settings = flags.read(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # an epoch's line shows when it is done, in a file too
    run = None
    try:
        from distributions import gemm  # torch comes with it: not before the flags are read, so that --help is instant
        from jobs import training

        try:
            run = training.start(*settings)
        except training.INPUT_ERRORS as error:
            return f"error: {error}"
        quiet = redirect_stdout(sys.stdout if run.processes.leads else StringIO())
        with gemm.using(run.config["gemm"]) as library, quiet:
            if library != run.config["gemm"]:
                print(f"{run.config['gemm']} rounds products on this machine: {library} goes on, in other last bits")
            try:
                run.train()
                run.report()
            except training.ProcessError as error:
                return f"error: {error}; {run.folder.path} keeps epoch {run.epoch}: go on with --resume"
    except FloatingPointError as error:
        return f"error: {error}; {run.folder.path} keeps epoch {run.epoch}. A lower --lr or a longer --warmup may help"
    except KeyboardInterrupt:
        after = f" after epoch {run.epoch}; go on with: python run.py --resume {run.folder.path}" if run else ""
        print(f"\nstopped{after}", file=sys.stderr)
        return 130
