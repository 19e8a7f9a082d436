"""The main command: assemble → fit → score → report."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

from vampyro.cli.startup import print_by_line
from vampyro.errors import CapacityError, UserError
from vampyro.runs import config as flags
from vampyro.runs.arguments import as_started

if TYPE_CHECKING:
    from vampyro.runs.training_run import Run


def main(argv: Sequence[str]) -> None:
    config, given, resume = flags.read(argv)
    flags.check_data(config if resume is None else given)
    print_by_line()
    # torch comes with these: not before the flags are read, so that --help is instant
    from vampyro.distributions import gemm
    from vampyro.runs import training_run as begin
    from vampyro.training.distributed import ProcessError

    run = None
    try:
        run = begin.start(config, given, resume)
        with gemm.using(run.config.gemm), redirect_stdout(sys.stdout if run.processes.leads else StringIO()):
            train_and_report(run)
    except (OSError, ProcessError, CapacityError) as error:
        if run is None:
            raise
        raise UserError(f"{error}; {kept(run)}") from None
    except KeyboardInterrupt:
        print(f"\nstopped{'; ' + kept(run) if run else ''}", file=sys.stderr)
        raise
    finally:
        if run is not None:
            run.folder.release()


def train_and_report(run: "Run") -> None:
    """Train and score. If a number is not finite, report where it came from."""
    from vampyro.runs.training_run import diagnosis

    try:
        run.train()
    except (FloatingPointError, ValueError) as error:  # the second is how stock SVI meets a NaN
        if isinstance(error, UserError):
            raise
        print(f"epoch {run.epoch + 1} failed: repeating it step by step to find the cause", file=sys.stderr)
        if (found := diagnosis(run)) is not None:
            again = "Train a new run with a lower --lr or a longer --warmup; --resume would fail again"
            raise UserError(f"{found}; {kept(run).partition(';')[0]}. {again}") from None
        if isinstance(error, FloatingPointError):
            raise UserError(f"{error}, but not with --engine eager; {kept(run)} --engine eager") from None
        raise
    try:
        run.report()
    except FloatingPointError as error:
        raise UserError(f"scoring failed: {error}; {kept(run)}") from None


def kept(run: "Run") -> str:
    """Return which epochs are kept, and the command that resumes the run."""
    if not (run.folder.path / "config.json").exists():
        return f"{run.folder.path} was removed or moved while this run wrote to it: put it back, or train a new run"
    command = as_started("python run.py")
    if run.processes.size > 1:
        nodes = run.processes.size // run.processes.per_node
        several = f"--nnodes {nodes} " if nodes > 1 else ""
        script = "run.py" if command == "python run.py" else "-m vampyro"
        command = f"torchrun {several}--nproc-per-node {run.processes.per_node} {script}"
    epochs = f"contains epoch {run.epoch}" if run.epoch else "contains no complete epoch yet"
    return f"{run.folder.path} {epochs}; resume with: {command} --resume {shlex.quote(str(run.folder.path))}"
