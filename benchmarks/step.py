"""Milliseconds a training step: our engines beside hand-written torch, other libraries, and the matrix products alone.

    python -m benchmarks.step                      a table; batch 100, 40 latents, gated MLPs 784-300-300
    python -m benchmarks.step --json FILE          and every figure
    python -m benchmarks.step --only vamp          configurations by their name's beginning

Every contestant takes the same batches of binary images and makes one step of Adam. They run in short blocks in turns;
a ratio is the median over rounds of two contestants' times in the same round. Torch runs twice, by either library for
matrix products. pythae and NumPyro are skipped where they are not installed (requirements-benchmarks.txt).
"""

import itertools
import sys

import torch

from benchmarks.handmade import handmade_step, products
from benchmarks.rivals import numpyro_step, pythae_step
from benchmarks.timing import alternate, parser, ratio, summary, table, write
from vampyro import data
from vampyro.catalogue.assemble import assemble
from vampyro.distributions import gemm
from vampyro.programs.randomness import seeded
from vampyro.training import make_update

CONFIGURATIONS = {
    "standard": ("standard", "none", 0),
    "vamp:500": ("vamp:500", "none", 500),
    "vamp:500 planar:5": ("vamp:500", "planar:5", 500),
}
# numerator, denominator, must, aim
TARGETS = [
    ("standard · compiled", "standard · torch", 0.9, 0.8),
    ("vamp:500 · compiled", "vamp:500 · torch", 0.9, 0.8),
    ("vamp:500 · compiled", "vamp:500 · numpyro tuned", 1.15, 0.95),
    ("vamp:500 · compiled", "vamp:500 · numpyro", 0.4, 0.3),
    ("vamp:500 · compiled", "vamp:500 · pythae", 0.3, 0.25),
    ("vamp:500 planar:5 · compiled", "vamp:500 · compiled", 1.8, 1.4),
    ("vamp:500 · compiled", "vamp:500 · products", 1.6, 1.3),
]


def ours(prior, flow, engine):
    with seeded(0):
        model, guide = assemble(prior=prior, flow=flow)
    return make_update(model, guide, engine=engine)


def contestants(name, library):
    """name → (step, what it takes), those that are installed; torch steps run with `library`."""
    prior, flow, components = CONFIGURATIONS[name]
    builders = {engine: lambda engine=engine: ours(prior, flow, engine) for engine in ("svi", "eager", "compiled")}
    if flow == "none":
        builders["torch"] = lambda: handmade_step(components)
        builders["torch.compile"] = lambda: handmade_step(components, mode="default")
        builders["products"] = lambda: products(components)
        if components:
            builders["torch B×K×D"] = lambda: handmade_step(components, broadcast=True)
            builders["pythae"] = lambda: pythae_step(components)
        if library == "blas":  # JAX multiplies by a library of its own: once is enough
            builders["numpyro"] = lambda: numpyro_step(components)
            if components:
                builders["numpyro tuned"] = lambda: numpyro_step(components, tuned=True)
    for kind, build in builders.items():
        try:
            yield f"{name} · {kind}", build()
        except ImportError as error:
            print(f"skipped {name} · {kind}: {error.name} is not installed", file=sys.stderr)


def main():
    p = parser(__doc__)
    p.add_argument("--only", default="", help="configurations whose name begins so")
    options = p.parse_args()
    torch.set_num_threads(options.threads)
    batches = itertools.cycle(_batches())
    steps = {}
    for library in ("blas", "onednn"):
        with gemm.using(library) as used:
            for name in CONFIGURATIONS:
                if name.startswith(options.only):
                    for contestant, step in contestants(name, library):
                        label = contestant if "numpyro" in contestant else f"{contestant} [{used}]"
                        steps.setdefault(label, _call(step, label, batches, used))
                        for _ in range(3):
                            steps[label]()
                        print(f"ready: {label}", file=sys.stderr)
    times = alternate(steps, options.blocks)
    figures = summary(times)
    rows = [
        (name, f"{f['median']:.2f}", f"{f['min']:.2f}", f"{f['low']:.2f} – {f['high']:.2f}")
        for name, f in figures.items()
    ]
    print(table(("step", "median ms", "minimum", "quartiles"), rows))
    ratios = []
    for one, other, must, aim in TARGETS:
        for library in ("blas", "onednn"):
            a = f"{one} [{library}]"
            b = other if "numpyro" in other else f"{other} [{library}]"
            if a in times and b in times:
                ratios.append({"of": a, "to": b, "ratio": ratio(times, a, b), "must": must, "aim": aim})
    print()
    rows = [(r["of"], r["to"], f"{r['ratio']:.2f}", r["must"], r["aim"]) for r in ratios]
    print(table(("step", "against", "ratio", "must be at most", "aim"), rows))
    write(options.json, {"ms": figures, "ratios": ratios, "blocks": times})


def _batches():
    with seeded(0):
        return list(data.load("mnist5k").batches(100))[:20]


def _call(step, label, batches, library):
    if "products" in label:
        call = step
    elif "numpyro" in label:

        def call():
            step(next(batches).flatten(1).numpy())
    else:

        def call():
            step(next(batches))

    def within():
        with gemm.using(library):
            call()

    return within


if __name__ == "__main__":
    main()
