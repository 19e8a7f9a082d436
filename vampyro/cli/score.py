"""The command `score`: measure a finished run, also with more samples, another prior or other images."""

import argparse
import shlex
from collections.abc import Sequence

from vampyro.cli.startup import keeping
from vampyro.errors import SpecError, choose
from vampyro.reports.sections import SECTIONS
from vampyro.runs.arguments import COUNT, SEED, Parser, as_started, number, path
from vampyro.runs.config import check_data


def measures(text: str) -> list[str]:
    """An argparse type: `elbo,ais` → ["elbo", "ais"], and `all`."""
    names = list(SECTIONS) if text == "all" else text.split(",")
    try:
        return [choose("measure", name, list(SECTIONS)) for name in names]
    except SpecError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parser() -> Parser:
    p = Parser(
        prog="run.py score",
        description="Measure the best epoch of a run: metrics go to results.json, all results to report.html.",
        epilog="measures: " + "; ".join(f"{name}: {section.help}" for name, section in SECTIONS.items()),
    )
    p.add_run()
    p.add_argument(
        "--measures",
        help="comma-separated names, or all (default: likelihood)",
        type=measures,
        default=["likelihood"],
        metavar="NAMES",
    )
    p.add_prior()
    p.add_argument("--samples", help="importance samples per image (default: the run's)", **COUNT)
    p.add_argument(
        "--split", help="images to measure (default: test)", choices=["train", "valid", "test"], default="test"
    )
    p.add_argument(
        "--images", help="number of images, chosen at random (default: as in the run)", dest="count", **COUNT
    )
    p.add_argument("--draw-seed", help="seed of this choice (default: 0)", **SEED, default=0)
    p.add_argument(
        "--temperatures", help="number of temperatures for ais (default: 300)", type=number(int, 2, 10**6), metavar="N"
    )
    p.add_argument(
        "--other", help="another data set with the same image shape, for outliers", type=path, metavar="NAME"
    )
    p.add_data_dir("folder of the data sets (default: the run's)")
    p.add_machine("samples")
    return p


def main(argv: Sequence[str]) -> str | None:
    p = parser()
    given = p.named_settings(argv)
    for name in {"temperatures", "other"} & given.keys():
        readers = [measure for measure, section in SECTIONS.items() if name in section.settings]
        if not set(readers) & set(given["measures"]):
            measure = " or ".join(readers)
            p.error(f"--{name} is only for the measure {measure}: add it to --measures, or leave --{name} out")
    check_data(given, "other")
    from vampyro.reports import measure as rescore  # imports torch, so only after the flags are checked
    from vampyro.runs.scoring import products_of

    with keeping("finished measures are kept; run the same command again to continue"), products_of(given["run"]):
        command = as_started(shlex.join(["python", "run.py", "score", *argv]))
        failed = rescore.rescore(command=command, **{"temperatures": 300, "other": None} | given)
    return f"not measured: {', '.join(failed)}" if failed else None
