"""The command `sweep`: train a run for each combination of settings, and compare them in a table."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vampyro.cli.score import measures
from vampyro.cli.startup import keeping, print_by_line
from vampyro.runs import config as flags
from vampyro.runs.arguments import MAX_SEED, THREADS, Parser
from vampyro.sweeps.grid import SweepError, cells, clean, vary

if TYPE_CHECKING:
    from vampyro.sweeps.sweep import Campaign

EPILOG = (
    "--vary NAME=V,V,… works for every training flag. Several --vary give all combinations. If values contain commas, "
    "separate them by slashes: --vary hidden=300,300/500,500. Run the same command again to resume a sweep."
)
JOBS_PER_CORE = 8  # more processes would only wait for each other and use memory
KEPT = "finished runs and epochs are kept; run the same command again to continue"
OWN = ("vary", "seeds", "jobs", "threads", "measures", "dask", "dry_run", "out", "seed")


def parser(prog: str, description: str, varied: bool = True) -> Parser:
    """Return a parser with the training flags and the flags of a sweep."""
    p = flags.parser(prog, description, many=True)
    p.epilog = EPILOG if varied else None
    g = p.add_argument_group("sweep")
    if varied:
        g.add_argument("--vary", help="a setting and its values", action="append", metavar="NAME=V,V")
    g.add_argument("--seeds", help="runs of each cell, with successive seeds from --seed (default: 1)", **flags.COUNT)
    g.add_argument("--jobs", help="runs at the same time (default: 1)", **flags.COUNT)
    g.add_argument("--threads", help="threads of each run (default: an equal share of the cores)", **THREADS)
    g.add_argument("--measures", help="measures of each finished run, as in `run.py score`", type=measures)
    g.add_argument(
        "--dask", help="run on the workers of this Dask scheduler, for example tcp://HOST:8786", metavar="ADDRESS"
    )
    g.add_argument("--dry-run", help="list the remaining runs, and stop", action="store_true")
    return p


def split(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (settings of the sweep, training settings that all runs share)."""
    if "resume" in given:
        raise SweepError("--resume is for a single run; run the same command again to resume a sweep")
    most = JOBS_PER_CORE * (os.cpu_count() or 1)
    if given.get("jobs", 1) > most and "dask" not in given:
        raise SweepError(f"--jobs {given['jobs']}: expected at most {most}, {JOBS_PER_CORE} for each core")
    return {name: given.pop(name) for name in OWN if name in given}, given


def seeds_of(own: dict, count: int = 1) -> range:
    """Return the seeds of the runs of each cell; `count` is the default of --seeds."""
    first, count = own.get("seed", 0), own.get("seeds", count)
    if first + count - 1 > MAX_SEED:
        raise SweepError(f"--seed {first} and {count} --seeds: expected the last seed to be at most {MAX_SEED}")
    return range(first, first + count)


def carry_out(work: "Campaign", own: dict[str, Any], spare: bool = False) -> str | None:
    """Train and measure the remaining runs; with `spare`, skip cells that cannot be run. Return what failed."""
    from vampyro.sweeps import sweep as campaign

    todo, left_out = campaign.ready(work, spare)
    print(campaign.announce(work, todo))
    return campaign.run(todo, left_out, own.get("jobs", 1), own.get("threads"), own.get("dask"))


def main(argv: list[str]) -> str | None:
    """Run the command."""
    p = parser(
        "run.py sweep",
        "Train a run for each combination of the varied settings, and compare them in a table and a plot.",
    )
    own, shared = split(p.named_settings(argv))
    axes = [vary(text) for text in own.get("vary", ())]
    if not axes and own.get("seeds", 1) == 1:
        raise SweepError("nothing varies: use --vary NAME=V,V, for example --vary prior=standard,vamp, or --seeds N")
    seeds = seeds_of(own)
    made = cells(axes, shared, seeds=len(seeds))
    for cell in made:
        flags.check_data(cell.config)
    name = "_".join(["sweep", made[0].config["dataset"], *(axis.name for axis in axes)])
    out = Path(own.get("out") or Path("runs") / clean(name))
    from vampyro.sweeps import sweep as campaign  # imports torch, so only after the flags are checked

    print_by_line()
    work = campaign.Campaign(made, seeds, out, tuple(own.get("measures", ())))
    if own.get("dry_run"):
        campaign.plan(work)
        return None
    with keeping(KEPT):
        failed = carry_out(work, own)
        campaign.report(work)
    return failed
