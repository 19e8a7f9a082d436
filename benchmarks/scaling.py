"""Time and peak memory against the number of components, the flow's length, samples, batch and latent size.

    python -m benchmarks.scaling --out DIR         DIR/scaling.json and DIR/scaling.png; a table with the exponents

Every point is a process of its own, so that its memory is its own: the peak beyond what the program took to start.
An exponent is the slope of log time against log size over the upper half of the sizes; 1 is linear.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.timing import table

BASE = {"prior": "vamp:500", "flow": "none", "latent": 40, "batch": 100, "samples": 0}
FLOWS = [0, 1, 2, 5, 10, 20, 40, 80]
SWEEPS = {
    "components": [BASE | {"prior": f"vamp:{k}", "size": k} for k in (10, 50, 100, 500, 1000, 2000, 5000)],
    "planar layers": [BASE | {"prior": "vamp:100", "flow": f"planar:{n}" if n else "none", "size": n} for n in FLOWS],
    "batch": [BASE | {"batch": n, "size": n} for n in (25, 50, 100, 200, 400, 800, 1600)],
    "latent size": [BASE | {"latent": n, "size": n} for n in (10, 20, 40, 80, 160, 320)],
    "samples (scoring)": [BASE | {"samples": n, "size": n} for n in (100, 300, 1000, 3000, 10000, 30000)],
    "components (scoring)": [
        BASE | {"samples": 1000, "prior": f"vamp:{k}", "size": k} for k in (10, 50, 100, 500, 1000, 2000, 5000)
    ],
}


def measure(point):
    """(seconds, peak MiB beyond the start) of a training step, or of scoring four images."""
    import torch

    from vampyro.catalogue.assemble import assemble
    from vampyro.distributions import gemm
    from vampyro.likelihood import score
    from vampyro.programs.randomness import seeded
    from vampyro.training import make_update

    torch.set_num_threads(point["threads"])
    with gemm.using("onednn"), seeded(0):
        model, guide = assemble(prior=point["prior"], flow=point["flow"], latent=point["latent"])
        x = (torch.rand(point["batch"], 1, 28, 28) > 0.8).float()
        if point["samples"]:

            def call():
                score(model, guide, x[:4], point["samples"])
        else:
            update = make_update(model, guide)

            def call():
                update(x)

        start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        call()
        began, times = time.perf_counter(), []
        while len(times) < 3 or (time.perf_counter() - began < 1.5 and len(times) < 50):
            one = time.perf_counter()
            call()
            times.append(time.perf_counter() - one)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return min(times), (peak - start) / 1024


def exponent(sizes, values):
    """The slope of log value against log size, by least squares over the upper half."""
    points = [(math.log(s), math.log(v)) for s, v in zip(sizes, values) if s > 0 and v > 0]
    points = points[len(points) // 2 :]
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points))
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def draw(results, path):
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, axes = pyplot.subplots(
        2, len(results), figsize=(3 * len(results), 5.5), sharex="col", squeeze=False, layout="constrained"
    )
    for column, (name, points) in zip(axes.T, results.items()):
        sizes = [p["size"] for p in points]
        for ax, key, unit in ((column[0], "seconds", "ms"), (column[1], "mib", "MiB")):
            values = [p[key] * (1000 if unit == "ms" else 1) for p in points]
            ax.plot(sizes, values, "o-", color="#2a6f97", ms=4)
            ax.set_xscale("symlog" if 0 in sizes else "log"), ax.grid(alpha=0.3)
            if unit == "ms":
                linear = [values[-1] * size / sizes[-1] for size in sizes]
                ax.plot(sizes, linear, "--", color="0.6", lw=1, label="linear")
                ax.set_yscale("log"), ax.set_ylim(min(values) / 2, 2 * max(values)), ax.legend(fontsize=8)
                ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                ax.yaxis.set_major_formatter("{x:g}"), ax.yaxis.set_minor_formatter(NullFormatter())
            else:
                ax.set_ylim(0, 1.1 * max(values))
            if name == next(iter(results)):
                ax.set_ylabel(f"{'time' if unit == 'ms' else 'peak memory'} / {unit}")
        column[0].set_title(name, fontsize=10), column[1].set_xlabel(name)
    figure.savefig(path, dpi=130)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", metavar="DIR", default=".")
    p.add_argument("--threads", type=int, default=1, help="of torch (default: 1, as exponents are what is asked)")
    p.add_argument("--only", help="sweeps whose name begins so", default="")
    p.add_argument("--point", help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.point:
        print(json.dumps(measure(json.loads(options.point))))
        return
    results = {}
    for name, points in SWEEPS.items():
        if not name.startswith(options.only):
            continue
        results[name] = []
        for point in points:
            command = [
                sys.executable,
                "-m",
                "benchmarks.scaling",
                "--point",
                json.dumps(point | {"threads": options.threads}),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, mib = json.loads(done.stdout.splitlines()[-1])
            results[name].append(point | {"seconds": seconds, "mib": mib})
            print(f"{name} {point['size']}: {1000 * seconds:.1f} ms, {mib:.0f} MiB", file=sys.stderr)
    rows = []
    for name, points in results.items():
        sizes = [p["size"] for p in points]
        rows.append(
            (
                name,
                f"{sizes[0]} … {sizes[-1]}",
                f"{1000 * points[0]['seconds']:.1f} … {1000 * points[-1]['seconds']:.1f}",
                f"{exponent(sizes, [p['seconds'] for p in points]):.2f}",
                f"{points[0]['mib']:.0f} … {points[-1]['mib']:.0f}",
                f"{exponent(sizes, [p['mib'] for p in points]):.2f}",
            )
        )
    print(table(("against", "from … to", "ms", "exponent", "peak MiB", "exponent"), rows))
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scaling.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(results, folder / "scaling.png")


if __name__ == "__main__":
    main()
