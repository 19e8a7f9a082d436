"""The command `reproduce`: repeat a published experiment and compare the results."""

from pathlib import Path

from vampyro.cli.startup import keeping, print_by_line
from vampyro.cli.sweep import KEPT, carry_out, seeds_of, split
from vampyro.cli.sweep import parser as sweep_parser
from vampyro.runs import config as flags
from vampyro.runs.arguments import Parser, file
from vampyro.sweeps import experiments as recipes
from vampyro.sweeps.grid import SweepError, duration


def parser() -> Parser:
    """Return the parser of this command."""
    p = sweep_parser(
        "run.py reproduce", "Repeat a published experiment. Training flags override its settings.", varied=False
    )
    p.add_argument("recipe", help=f"one of {', '.join(recipes.names())}", nargs="?", metavar="NAME")
    p.add_argument("--list", help="list the recipes and their approximate times", action="store_true")
    p.add_argument(
        "--only", help="only cells with this text in their names; can be repeated", action="append", metavar="TEXT"
    )
    p.add_argument("--page", help="page with the results (default: NAME.md in --out)", **file(".md"))
    p.add_argument("--picture", help="plot of the results (default: NAME.png in --out)", **file(".png"))
    return p


def main(argv: list[str]) -> str | None:
    """Run the command."""
    given = parser().named_settings(argv)
    if given.pop("list", False):
        for name in recipes.names():
            print(f"{name}\n    " + "\n    ".join(describe_recipe(recipes.read(name))) + "\n")
        return None
    name, only = given.pop("recipe", None), given.pop("only", None)
    page, picture = given.pop("page", None), given.pop("picture", None)
    own, shared = split(given)
    if not name:
        raise SweepError(f"expected the name of a recipe: {', '.join(recipes.names())}; --list describes them")
    recipe = recipes.read(name)
    seeds = seeds_of(own, recipe.seeds)
    made = recipe.cells(shared, only, len(seeds))
    flags.check_data(shared)  # of the recipe's own data, cells that cannot be had are left out later
    out = Path(own.get("out") or Path("runs") / name)
    from vampyro.sweeps import page as pages
    from vampyro.sweeps import sweep as campaign  # torch comes with it: not before the flags are read

    print_by_line()
    work = campaign.Campaign(made, seeds, out, tuple(own.get("measures", recipe.measures)))
    print("\n".join(describe_recipe(recipe)) + "\n")
    if own.get("dry_run"):
        campaign.plan(work)
        return None
    with keeping(KEPT):
        failed = carry_out(work, own, spare=True)
        changed = {name: value for name, value in shared.items() if name not in flags.WHERE}
        paths = page or out / f"{name}.md", picture or out / f"{name}.png"
        if text := pages.write(recipe, work, changed, only, paths):
            print(f"\n{text}\n\npage                {paths[0]}\npicture             {paths[1]}")
    return failed


def describe_recipe(recipe: recipes.Recipe) -> tuple[str, str, str]:
    """Return the title, the source, and the number of runs with their approximate time."""
    count, time = recipe.seeds * len(recipe.cells()), duration(3600 * recipe.hours)
    return recipe.title, recipe.source, f"the recipe: {count} runs, {time} on one CPU core"
