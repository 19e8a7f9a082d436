"""The main job: assemble → fit → score → report."""

import sys

from jobs import flags


def main(argv):
    settings = flags.read(argv)
    sys.stdout.reconfigure(line_buffering=True)  # an epoch's line shows when it is done, in a file too
    from jobs import training  # torch comes with it: not before the flags are read, so that --help is instant

    try:
        run = training.start(*settings)
    except training.INPUT_ERRORS as error:
        return f"error: {error}"
    try:
        run.train()
        run.report()
    except FloatingPointError as error:
        return f"error: {error}; {run.folder.path} keeps epoch {run.epoch}. A lower --lr or a longer --warmup may help"
    except KeyboardInterrupt:
        print(
            f"\nstopped after epoch {run.epoch}; go on with: python run.py --resume {run.folder.path}", file=sys.stderr
        )
        return 130
