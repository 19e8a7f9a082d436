"""Images × samples a second: our scoring beside a loop over images, Pyro's own weights, and the decoder's products.

    python -m benchmarks.score                     a table; S = 1000, 40 latents, gated MLPs
    python -m benchmarks.score --json FILE         and every figure

The loop is what the VampPrior paper's code does, in hand-written torch: S copies of an image through encoder and
decoder, the mixture by a tensor of copies × K × D. (Nobody else has the mixture over planar posteriors.) Pyro's weights
are `vectorized_importance_weights`, image by image. The ceiling is the decoder's three matrix products for as many rows
and nothing else. All score programs of one size with the same library for products.
"""

import pyro
import torch
from pyro.infer.importance import vectorized_importance_weights

import data
from assemble import assemble
from benchmarks.handmade import HandmadeVAE
from benchmarks.timing import alternate, parser, ratio, summary, table, write
from distributions import gemm
from inference import score, seeded

CONFIGURATIONS = {
    "standard": ("standard", "none"),
    "vamp:500": ("vamp:500:from-data", "none"),
    "vamp:500 planar:5": ("vamp:500:from-data", "planar:5"),
}
IMAGES = 10
CHUNK = 500  # copies of an image at a time, as in the VampPrior paper's code


@torch.no_grad()
def loop(vae, images, samples):
    """log p̂ of each image from S copies of it, a chunk at a time; pseudo-inputs are encoded for every chunk."""
    scores = []
    for x in images:
        chunks = [
            vae.log_weights(x.expand(min(CHUNK, samples - start), *x.shape)) for start in range(0, samples, CHUNK)
        ]
        scores.append(torch.cat(chunks).logsumexp(0))
    return torch.stack(scores)


@torch.no_grad()
def pyro_weights(model, guide, images, samples):
    with pyro.validation_enabled(False):
        for x in images.split(1):
            for start in range(0, samples, CHUNK):
                count = min(CHUNK, samples - start)
                vectorized_importance_weights(model, guide, x, num_samples=count, max_plate_nesting=1)


def loop_of(name, x, samples):
    vae = HandmadeVAE(500 if name.startswith("vamp") else 0, broadcast=True)
    return lambda: loop(vae, x, samples)


def ceiling(rows, latent=40, hidden=300, at_once=4096):
    """() → the decoder's products for that many rows."""
    shapes = [(latent, 2 * hidden), (hidden, 2 * hidden), (hidden, 784)]
    factors = [
        (torch.randn(at_once, inputs), torch.randn(inputs, outputs), torch.empty(at_once, outputs))
        for inputs, outputs in shapes
    ]

    def call():
        for start in range(0, rows, at_once):
            count = min(at_once, rows - start)
            for a, b, out in factors:
                torch.mm(a[:count], b, out=out[:count])

    return call


def programs(prior, flow, images):
    """A VampPrior's pseudo-inputs are images, and posteriors as narrow as training makes them."""
    with seeded(0):
        model, guide = assemble(prior=prior, flow=flow, images=lambda: images.images("train"))
        with torch.no_grad():
            guide.head.linear.bias[guide.head.linear.out_features // 2 :] -= 3
    return model, guide


def main():
    p = parser(__doc__)
    p.add_argument("--samples", type=int, default=1000)
    options = p.parse_args()
    torch.set_num_threads(options.threads)
    images = data.load("mnist5k")
    x = images.images("test")[:IMAGES]
    rows = IMAGES * options.samples
    library = gemm.faster()
    rates, ratios, times = [], [], {}
    with gemm.using(library):
        for name, (prior, flow) in CONFIGURATIONS.items():
            model, guide = programs(prior, flow, images)
            calls = {
                "ours": lambda: score(model, guide, x, options.samples),
                **({} if flow != "none" else {"loop over images": loop_of(name, x, options.samples)}),
                "pyro": lambda: pyro_weights(model, guide, x, options.samples),
                "products": ceiling(rows),
            }
            found = alternate(calls, options.blocks, seconds=0.2)
            times[name] = found
            for kind, figures in summary(found).items():
                rates.append((name, kind, f"{rows / figures['median']:.0f}", f"{figures['median']:.0f}"))
            targets = {"loop over images": (5, 10), "pyro": ("", ""), "products": (0.7, 0.85)}
            ratios += [
                (name, rival, ratio(found, rival, "ours"), *targets[rival]) for rival in found if rival != "ours"
            ]
    print(f"{IMAGES} images, {options.samples} samples, library for products: {library}\n")
    print(table(("programs", "scored by", "thousand rows a second", "ms"), rates))
    print()
    print(
        table(
            ("programs", "against", "times as fast", "must", "aim"), [(*r[:2], f"{r[2]:.2f}", *r[3:]) for r in ratios]
        )
    )
    write(options.json, {"ms": times, "ratios": ratios, "rows": rows, "library": library})


if __name__ == "__main__":
    main()
