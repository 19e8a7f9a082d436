"""Images × samples a second: our scoring beside a loop over images, Pyro's own weights, and the decoder's products.

    python -m benchmarks.score                     a table; S = 1000, 40 latents, gated MLPs, ten epochs old
    python -m benchmarks.score --json FILE         and every figure

The loop is what the VampPrior paper's code does, in hand-written torch: S copies of an image through encoder and
decoder, the mixture by a tensor of copies × K × D. (Nobody else has the mixture over planar posteriors.) Pyro's
weights are `vectorized_importance_weights`, image by image. The ceiling is the matrix products of decoder and mixture
for as many rows and nothing else. All score programs of one size with the same library for products. Ours is the whole
call, in which it compiles, here from what the compiler keeps on disk.
"""

import pyro
import torch
from pyro.infer.importance import vectorized_importance_weights

from benchmarks.handmade import HandmadeVAE
from benchmarks.timing import alternate, parser, ratio, summary, table, write
from vampyro import data
from vampyro.catalogue.assemble import assemble
from vampyro.distributions import gemm
from vampyro.likelihood import score
from vampyro.programs.randomness import seeded
from vampyro.training import fit, make_update

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


def ceiling(rows, prior, latent=40, hidden=300, at_once=2048):
    """() → for that many rows the products of the decoder, and of a mixture of Normals with its points."""
    shapes = [(latent, 2 * hidden), (hidden, 2 * hidden), (hidden, 784)]
    shapes += [(2 * latent, 500)] if prior.startswith("vamp") else []
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


def trained(prior, flow, images, epochs=10):
    """Programs as they are scored: which of a mixture's components matter, and to how many points, training decides."""
    with seeded(0):
        model, guide = assemble(prior=prior, flow=flow, images=lambda: images.images("train"))
        for _ in fit(make_update(model, guide), images, epochs=epochs):
            pass
    return model, guide


def main():
    p = parser(__doc__)
    p.set_defaults(blocks=3)
    p.add_argument("--only", help="configurations by their name's beginning", default="")
    p.add_argument("--samples", type=int, default=1000)
    p.add_argument("--images", type=int, default=2000, help="that we score (a tenth with a flow); loops, 10")
    options = p.parse_args()
    torch.set_num_threads(options.threads)
    images = data.load("mnist5k")
    x = images.images("train")[: options.images]
    few = x[:IMAGES]
    library = gemm.choose("cpu")
    rates, ratios, times = [], [], {}
    with gemm.using(library):
        for name, (prior, flow) in CONFIGURATIONS.items():
            if not name.startswith(options.only):
                continue
            model, guide = trained(prior, flow, images)
            many = x if flow == "none" else x[::10]
            calls = {
                "ours": (len(many), lambda: score(model, guide, many, options.samples, compiled=True)),
                "ours, eager": (len(many), lambda: score(model, guide, many, options.samples, compiled=False)),
                "products": (len(many), ceiling(len(many) * options.samples, prior)),
                "pyro": (len(few), lambda: pyro_weights(model, guide, few, options.samples)),
            }
            if flow == "none":
                calls["loop over images"] = len(few), loop_of(name, few, options.samples)
            found = alternate({kind: call for kind, (_, call) in calls.items()}, options.blocks, seconds=0.2)
            found = {
                kind: [1000 * ms / (calls[kind][0] * options.samples) for ms in values]
                for kind, values in found.items()
            }
            times[name] = found
            for kind, figures in summary(found).items():
                rates.append((name, kind, f"{1000 / figures['median']:.1f}", f"{figures['median']:.2f}"))
            targets = {"loop over images": (5, 10), "products": (0.7, 0.85) if flow == "none" else ("", "")}
            ratios += [
                (name, rival, ratio(found, rival, "ours"), *targets.get(rival, ("", "")))
                for rival in found
                if rival != "ours"
            ]
    print(f"{options.samples} samples, library for products: {library}\n")
    print(table(("programs", "scored by", "thousand rows a second", "µs a row"), rates))
    print()
    print(
        table(
            ("programs", "against", "times as fast", "must", "aim"), [(*r[:2], f"{r[2]:.2f}", *r[3:]) for r in ratios]
        )
    )
    write(options.json, {"µs a row": times, "ratios": ratios, "library": library})


if __name__ == "__main__":
    main()
