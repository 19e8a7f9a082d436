"""Accept a GPU: every engine and score against the CPU, and what a step, a training run and a scoring take.

    python -m benchmarks.gpu_acceptance --pack DIR --data FILE.npz     pack static MNIST, from a folder of data sets
    python -m benchmarks.gpu_acceptance --data FILE.npz                the check, in under nine minutes, offline

Checks come first, then measurements; each is skipped where the time left is too short. The table is printed row by
row, and the JSON file is replaced after every row, so that nothing is lost where the command is stopped. The exit
status is 1 where a row has failed. What is to be carried to a machine without a network: benchmarks/README.md.
"""

import argparse
import contextlib
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import gpu_acceptance_engines as engines
from benchmarks import gpu_acceptance_jobs as jobs
from benchmarks import gpu_acceptance_scores as scores
from benchmarks import gpu_acceptance_times as times
from benchmarks.gpu_acceptance_programs import Settings
from benchmarks.gpu_acceptance_rows import Rows
from vampyro import data
from vampyro.distributions import gemm

SPLITS = ("train", "valid", "test")
RESERVE = 0.35  # of the time is kept for the measurements
COLUMNS = ("status", "row", "value", "expected", "seconds")


def parser() -> argparse.ArgumentParser:
    """The flags of the command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", metavar="FILE.npz", required=True, help="packed static MNIST")
    p.add_argument("--pack", metavar="DIR", help="write --data from the data sets in this folder, and stop")
    p.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="what is accepted (default: cuda)")
    p.add_argument("--small", action="store_true", help="the smallest sizes, to test the command itself")
    p.add_argument("--minutes", type=float, default=9.0, help="time for everything (default: 9)")
    p.add_argument("--json", metavar="FILE", default="gpu_acceptance.json", help="the results (default: %(default)s)")
    p.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains this text")
    return p


def pack(folder: str, file: str) -> None:
    """Writes static MNIST as a FILE.npz of bits that `data.load` reads; about 3 MB."""
    images = data.load("static-mnist", folder)
    np.savez_compressed(file, **{split: getattr(images, split).numpy() > 0 for split in SPLITS})
    print(f"{file}: {images}, {Path(file).stat().st_size / 1e6:.1f} MB")


def header(settings: Settings) -> dict:
    """The device and the data, for the JSON file."""
    device = {"kind": settings.device.type, "cuda": torch.version.cuda, "small": settings.small}
    if settings.cuda:
        properties = torch.cuda.get_device_properties(settings.device)
        device |= {"name": properties.name, "memory": properties.total_memory, "count": torch.cuda.device_count()}
    return {"device": device, "data": repr(settings.images)}


def main(argv: list[str] | None = None) -> int | str:
    """The exit status, or an error in one line."""
    options = parser().parse_args(argv)
    try:
        if options.pack:
            return pack(options.pack, options.data) or 0
        images = data.load(options.data)
    except data.DataError as error:
        return f"error: --data: {error}"
    if options.device == "cuda" and not torch.cuda.is_available():
        return "error: --device cuda: torch sees no CUDA device; on this machine only --device cpu can run"
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(torch.device(options.device), options.small, images, Path(options.data), Path(folder))
        rows = Rows(options.json, options.minutes, header(settings), patience=1 if settings.cuda else 10)
        print(f"{rows.header}\n\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        checks = (engines.tasks, scores.tasks, jobs.tasks, engines.compiled_tasks)
        for tasks in checks:
            precision = contextlib.nullcontext() if tasks is jobs.tasks else gemm.using("blas")  # a run sets its own
            with precision:
                chosen = (task for task in tasks(settings) if options.only in task.name)
                rows.run(chosen, reserve=RESERVE * 60 * options.minutes)
        rows.run(task for task in times.tasks(settings, rows) if options.only in task.name)
    print(f"\n{rows.summary()}")
    return int(any(row.status == "failed" for row in rows.rows))


if __name__ == "__main__":
    sys.exit(main())
