"""The job `reproduce`: a published experiment again, ours beside theirs."""

import sys
from pathlib import Path

from vampyro.cli.sweep import KEPT, by_line, seeds_of, split
from vampyro.cli.sweep import parser as sweep_parser
from vampyro.errors import SpecError, quote
from vampyro.runs import config as flags
from vampyro.runs.arguments import file
from vampyro.runs.signals import status
from vampyro.sweeps import experiments as recipes
from vampyro.sweeps.grid import SweepError, cells


def parser():
    p = sweep_parser(
        "run.py reproduce", "Repeat a published experiment; training flags take the place of its own.", varied=False
    )
    p.add_argument("recipe", help=f"one of {', '.join(recipes.names())}", nargs="?", metavar="NAME")
    p.add_argument("--list", help="say which there are, and how long each takes about", action="store_true")
    p.add_argument(
        "--only", help="cells with this text in their names; may be given again", action="append", metavar="TEXT"
    )
    p.add_argument("--page", help="the page to write (default: NAME.md in --out)", **file(".md"))
    p.add_argument("--picture", help="its picture (default: NAME.png in --out)", **file(".png"))
    return p


def cells_of(recipe, given=None, only=None, seeds=1):
    """The recipe's cells, with what is `given` in place of its own settings; of them those with a text in their names.

    Raises:
        SweepError: where none is left, or what is given is what varies.
    """
    made = cells(recipe.axes, recipe.base | (given or {}), recipe.when, seeds)
    chosen = [cell for cell in made if not only or any(text.lower() in cell.label.lower() for text in only)]
    if not chosen:
        names = "; ".join(cell.label for cell in made)
        raise SweepError(f"--only {quote(', '.join(only))}: no cell has that in its name; there are {names}")
    return chosen


def main(argv):
    given = parser().named(argv)
    if given.pop("list", False):
        return table_of_contents()
    try:
        name, only = given.pop("recipe", None), given.pop("only", None)
        page, picture = given.pop("page", None), given.pop("picture", None)
        own, shared = split(given)
        if not name:
            raise SweepError(f"which recipe? There are {', '.join(recipes.names())}; --list says more")
        recipe = recipes.read(name)
        seeds = seeds_of(own, recipe.seeds)
        made = cells_of(recipe, shared, only, len(seeds))
        flags.check_data(shared)  # of the recipe's own data, cells that cannot be had are left out later
        out = Path(own.get("out") or Path("runs") / name)
        from vampyro.sweeps import page as pages
        from vampyro.sweeps import sweep as campaign  # torch comes with it: not before the flags are read

        by_line()
        work = campaign.Campaign(made, seeds, out, tuple(own.get("measures", recipe.measures)))
        jobs, threads = own.get("jobs", 1), own.get("threads")
        print(f"{recipe.title}\n{recipe.source}\n")
        if own.get("dry_run"):
            return campaign.plan(work, jobs, threads)
        todo, failed = campaign.ready(work, spare=True)
        print(campaign.estimate([run.cell for run in todo], len(work.runs), jobs, threads))
        failed = campaign.run(todo, failed, jobs, threads, own.get("dask"))
        changed = {name: value for name, value in shared.items() if name not in flags.WHERE}
        paths = page or out / f"{name}.md", picture or out / f"{name}.png"
        if text := pages.write(recipe, work, changed, only, paths):
            print(f"\n{text}\n\npage                {paths[0]}\npicture             {paths[1]}")
        return failed
    except (SweepError, SpecError) as error:
        return f"error: {error}"
    except OSError as error:
        return f"error: {error}; {KEPT}"
    except KeyboardInterrupt as stop:
        print(f"\nstopped: {KEPT}", file=sys.stderr)
        return status(stop)


def table_of_contents():
    """Prints every recipe with how many runs it has and how long they take on one core here."""
    from vampyro.sweeps.durations import pace, spoken

    slower = pace()
    for name in recipes.names():
        recipe = recipes.read(name)
        print(f"{name}\n    {recipe.title}\n    {recipe.source}")
        time = spoken(3600 * slower * recipe.hours)
        print(f"    {recipe.seeds * len(cells_of(recipe))} runs: {time} on one core of this machine\n")
    print("--dry-run times each of a recipe's programs, on a GPU where there is one, and so says it better")
