"""Prior × posterior × model on static MNIST at one budget: the table in docs/grid.md.

python benchmarks/grid.py --out runs/grid --data-dir DIR                trains what is missing, then prints the table
python benchmarks/grid.py --out runs/grid30 --data-dir DIR --epochs 30  the same with another budget

Every cell is a run of `run.py`, in a folder of its own; an interrupted one is resumed. Differences are paired: the
mean over images and seeds of log p̂(x) minus that of the first cell, with its standard error over images.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

RUN = Path(__file__).parent.parent / "run.py"
PRIORS = ("standard", "mog:50", "coupling:4", "vamp:50:from-data")
FLOWS = ("none", "planar:5", "coupling:4", "iaf:4", "sylvester:4")
CELLS = [("vae", prior, flow) for prior in PRIORS for flow in FLOWS] + [
    ("two-level", prior, flow) for prior in ("standard", "vamp:50:from-data") for flow in ("none", "planar:5")
]


def command(cell, seed, options):
    model, prior, flow = cell
    return [
        *("--dataset", "static-mnist", "--data-dir", options.data_dir),
        *("--model", model, "--prior", prior, "--flow", flow, "--seed", str(seed)),
        *(
            "--epochs",
            str(options.epochs),
            "--warmup",
            str(options.warmup),
            "--samples",
            "500",
            "--test-images",
            "1000",
        ),
    ]


def folder(cell, seed, options):
    return Path(options.out) / "_".join([*cell, f"seed{seed}"]).replace(":", "-")


def train(cell, seed, options):
    path = folder(cell, seed, options)
    if (path / "results.json").exists():
        epochs = json.loads((path / "config.json").read_text())["epochs"]
        if epochs != options.epochs:
            raise SystemExit(f"{path} was trained for {epochs} epochs, not {options.epochs}: choose another --out")
        return
    if (path / "checkpoint.pt").exists():
        arguments = ["--resume", str(path)]
    else:
        arguments = [*command(cell, seed, options), "--out", str(path)]
        (path / "config.json").unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, RUN, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": str(options.threads)},
        capture_output=True,
        text=True,
    )
    print(path.name, "done" if done.returncode == 0 else f"failed:\n{done.stderr}", flush=True)


def table(options):
    """A row a cell: its log-likelihoods, the paired difference and its error in standard errors."""
    rows = [
        "| model | prior | posterior | log p̂, each seed | mean | less the first row | KL | s an epoch |",
        "|---" * 8 + "|",
    ]
    first = None
    for cell in CELLS:
        paths = [folder(cell, seed, options) for seed in range(options.seeds)]
        paths = [path for path in paths if (path / "scores.npz").exists()]
        if len(paths) < options.seeds:
            continue  # differences are paired: every row has every seed, or none
        scores = np.stack([np.load(path / "scores.npz")["log_likelihood"] for path in paths])
        image = scores.mean(0)
        first = image if first is None else first
        difference = image - first
        error = difference.std(ddof=1) / len(difference) ** 0.5
        lines = [[json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()] for path in paths]
        kl = np.mean([line[-1]["kl"] for line in lines])
        seconds = np.median([epoch["seconds"] for line in lines for epoch in line])
        each = ", ".join(f"{score:.2f}" for score in scores.mean(1))
        paired = f"{difference.mean():+.2f} ± {error:.2f}" if error else "0"
        model, prior, flow = cell
        rows.append(
            f"| {model} | {prior} | {flow} | {each} | {image.mean():.2f} | {paired} | {kl:.1f} | {seconds:.0f} |"
        )
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    options = parser.parse_args()
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = [pool.submit(train, cell, seed, options) for seed in range(options.seeds) for cell in CELLS]
    for run in runs:
        run.result()
    print(table(options))


if __name__ == "__main__":
    main()
