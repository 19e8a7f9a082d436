"""The main job: assemble → fit → score → report."""

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

from vampyro.errors import UserError
from vampyro.runs import config as flags
from vampyro.runs.arguments import as_started
from vampyro.runs.signals import status

if TYPE_CHECKING:
    from vampyro.runs.training_run import Run


def main(argv: Sequence[str]) -> str | int | None:
    config, given, resume = settings = flags.read(argv)
    flags.check_data(config if resume is None else given)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # an epoch's line shows when it is done, in a file too
    run = None
    try:
        # torch comes with these: not before the flags are read, so that --help is instant
        from vampyro.distributions import gemm
        from vampyro.memory import MemoryShortage
        from vampyro.runs import training_run as begin
        from vampyro.training.distributed import ProcessError

        try:
            run = begin.start(*settings)
        except UserError as error:
            return f"error: {error}"
        quiet = redirect_stdout(sys.stdout if run.processes.leads else StringIO())
        with gemm.using(run.config.gemm), quiet:
            try:
                try:
                    run.train()
                except (ProcessError, MemoryShortage):
                    raise
                except (FloatingPointError, ValueError) as error:  # the second is how stock SVI meets a NaN
                    return traced(run, error, begin.diagnosis)
                try:
                    run.report()
                except FloatingPointError as error:
                    return f"error: scoring failed: {error}; {kept(run)}"
            except (ProcessError, MemoryShortage) as error:
                return f"error: {error}; {kept(run)}"
    except OSError as error:
        if run is None:
            raise
        return f"error: {error}; {kept(run)}"
    except KeyboardInterrupt as stop:
        print(f"\nstopped{'; ' + kept(run) if run else ''}", file=sys.stderr)
        return status(stop)
    finally:
        if run is not None:
            run.folder.release()
    return None


def traced(run: "Run", error: Exception, diagnosis: Callable[["Run"], Any]) -> str:
    """Return what to say of an epoch that ended in a number that is not finite; another error is raised again."""
    print(f"epoch {run.epoch + 1} failed: repeating it step by step to find where", file=sys.stderr)
    found = diagnosis(run)
    if found is not None:
        again = "A new run with a lower --lr or a longer --warmup may not meet it; --resume would"
        return f"error: {found}; {kept(run).partition(';')[0]}. {again}"
    if isinstance(error, FloatingPointError):
        return f"error: {error}, but repeated eagerly it is finite; {kept(run)} --engine eager"
    raise error


def kept(run: "Run") -> str:
    """Return what is not lost, and how to go on."""
    if not (run.folder.path / "config.json").exists():
        return f"{run.folder.path} was removed or moved while this run wrote to it: put it back, or train a new run"
    command = as_started("python run.py")
    if run.processes.size > 1:
        nodes = run.processes.size // run.processes.per_node
        several = f"--nnodes {nodes} " if nodes > 1 else ""
        script = "run.py" if command == "python run.py" else "-m vampyro"
        command = f"torchrun {several}--nproc-per-node {run.processes.per_node} {script}"
    epochs = f"keeps epoch {run.epoch}" if run.epoch else "has no whole epoch yet"
    return f"{run.folder.path} {epochs}; go on with: {command} --resume {shlex.quote(str(run.folder.path))}"
