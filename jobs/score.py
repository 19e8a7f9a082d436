"""The job `score`: a finished run's test images scored again, with more samples or under another prior."""

import argparse

from jobs.flags import COUNT, Parser, number

PRIORS = {
    "own": "the one that was trained",
    "aggregate": "1/N Σ q(z | x_n) over all N training images, the best there is for this guide and decoder",
}


def parser():
    p = Parser(
        prog="run.py score",
        description="Score a run's best epoch on test images.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    p.add_argument("run", help="the run's folder", metavar="DIR")
    p.add_argument(
        "--prior",
        help="; ".join(f"{name}: {what}" for name, what in PRIORS.items()) + " (default: own)",
        choices=list(PRIORS),
        default="own",
    )
    p.add_argument("--samples", help="importance samples per test image (default: the run's)", **COUNT)
    p.add_argument("--test-images", help="score N test images, drawn at random (default: as the run)", **COUNT)
    p.add_argument("--data-dir", help="folder of the data sets (default: the run's)", metavar="DIR")
    p.add_argument("--device", help="where to run (default: auto)", choices=["auto", "cpu", "cuda"], default="auto")
    p.add_argument("--seed", help="of the samples (default: the run's)", type=number(int, 0), metavar="N")
    return p


def main(argv):
    given = vars(parser().parse_args(argv))
    from distributions import gemm  # torch comes with it: not before the flags are read
    from jobs import rescore, training

    try:
        with gemm.using(gemm.faster()):
            rescore.rescore(given.pop("run"), **given)
    except training.INPUT_ERRORS as error:
        return f"error: {error}"
    except KeyboardInterrupt:
        return "\nstopped"
