"""Spec strings to programs."""

import json
from pathlib import Path

import torch
from torch import nn

from vampyro import nets
from vampyro.catalogue.parts import CONDITIONS, FLOWS, LIKELIHOODS, MIDDLES, NETS, POSTERIORS, PRIORS_OF
from vampyro.catalogue.specs import MAX_LAYERS, parse, parse_each
from vampyro.catalogue.supports import check_posterior
from vampyro.diagnostics.surgery import top_level
from vampyro.errors import SpecError, quote
from vampyro.guides import Guide, TwoLevelGuide
from vampyro.memory import Allowance, CapacityError
from vampyro.models import VAE, TwoLevel
from vampyro.priors import FittedMixture, VampPrior
from vampyro.programs.randomness import seeded
from vampyro.training.checkpoint import CheckpointError, load_checkpoint
from vampyro.training.checkpoint_state import check_state

ADDED = {"condition": "none"}  # parts that the config.json of an older run lacks


def vae(prior, posterior, middle, encode, decode, hidden, activation, latents, flows, given):
    body = encode(hidden)
    guide = Guide(body, *posterior(body.features, latents[0], flows[0]))
    return VAE(prior(guide, latents[0]), decode(nets.MLP((latents[0] + given,), hidden[::-1], activation))), guide


def two_level(prior, posterior, middle, encode, decode, hidden, activation, latents, flows, given):
    # Two inputs meet before the last layer; with one layer only, each gets its own besides.
    first, last = hidden[:-1] or hidden, hidden[-1:]

    def body(size, widths):
        return nets.MLP((size,), widths, activation)

    upper = encode(hidden)
    lower = nets.Join(encode(first), body(latents[1], first), last, activation)
    between = body(latents[1], hidden[::-1])
    first, last = hidden[:0:-1] or hidden, hidden[:1]
    decoder = nets.Join(body(latents[0] + given, first), body(latents[1], first), last, activation)
    guide = TwoLevelGuide(
        Guide(upper, *posterior(upper.features, latents[1], flows[1])),
        Guide(lower, *posterior(lower.features, latents[0], flows[0])),
    )
    between = nn.Sequential(between, middle(between.features, latents[0]))
    return TwoLevel(prior(guide, latents[1]), between, decode(decoder)), guide


def are_sizes(values: object) -> bool:
    """Return whether these are positive whole numbers, in a list or tuple that is not empty."""
    return isinstance(values, (list, tuple)) and bool(values) and all(type(v) is int and v >= 1 for v in values)


MODELS = {"vae": (vae, 1), "two-level": (two_level, 2)}  # and how many latents it has


PARTS = ("model", "prior", "flow", "posterior", "net", "activation", "hidden", "latent", "likelihood", "condition")


def assemble(
    *,
    model="vae",
    prior="standard",
    flow="none",
    posterior="normal",
    net="mlp",
    activation="gated",
    hidden=(300, 300),
    latent=40,
    likelihood="bernoulli",
    condition="none",
    shape=(1, 28, 28),
    classes=None,
    images=None,
):
    """The Pyro programs (model, guide) that the spec strings name.

    Args:
        model, prior, posterior, net, activation, likelihood, condition: spec strings, as on the command line.
        activation: or two, "A,B": B in the last layer of every network that reads images, A in all others.
        flow: a spec; of the two-level model, one for both posteriors or two, "FLOW1,FLOW2", for z1 and z2.
        hidden: widths of the encoder's layers, and of the decoder's from the latent up.
        latent: dimension of z; of the two-level model, one for both or a pair, for z1 and z2. Posterior `vq` makes a
            code of every 4.
        shape: of an image, (channels, height, width).
        classes: how many labels there are, where the condition is one: then programs are given images and their labels
            in one tensor, (N, pixels + classes), as `ImageSet.labelled()` makes them.
        images: training images (N, *shape) in [0, 1], or a function that returns them, for priors that start from data;
            with their labels where the condition is one.

    Raises:
        SpecError: for a spec that cannot be read, or a pair of parts that do not fit.
        CapacityError: for a part that is larger than the memory that is left; nothing has been allocated then.

    >>> model, guide = assemble(prior="vamp:50", flow="planar:2", hidden=(32,), latent=2)
    >>> model
    VAE(
      (prior): VampPrior(50 pseudo-inputs of 1×28×28)
      (decoder): Sequential(
        (0): MLP(2 → 32, gated)
        (1): BernoulliHead(32 → 1×28×28)
      )
    )
    >>> guide
    Guide(
      (body): MLP(1×28×28 → 32, gated)
      (head): NormalHead(32 → 2)
      (flow): PlanarFlow(length=2, amortised)
    )
    >>> model(batch=3).shape
    torch.Size([3, 1, 28, 28])
    >>> model, guide = assemble(condition="label", classes=10, hidden=(32,), latent=2)
    >>> model(batch=3, y=7)[:, 784:].argmax(1)      # beside 784 pixels the label
    tensor([7, 7, 7])
    """
    prior, posterior, likelihood = parse("prior", prior), parse("posterior", posterior), parse("likelihood", likelihood)
    program, levels = MODELS[parse("model", model).name]
    flows = parse_each("flow", flow, levels)
    check_posterior(posterior, prior=prior, flow=flow, model=model)
    if not are_sizes(shape):
        raise SpecError(f"shape expects that of an image, for example (1, 28, 28), got {quote(shape)}")
    encoder, trunk = NETS[parse("net", net).name]
    activation, final = (spec.name for spec in parse_each("activation", activation, 2))
    head = POSTERIORS[posterior.name]
    condition = CONDITIONS[parse("condition", condition).name]
    inputs, given, conditional_encoder, conditional_decoder = condition(shape, classes, final)
    if not are_sizes(hidden) or len(hidden) > MAX_LAYERS:
        expected = f"the widths of at most {MAX_LAYERS} layers, for example (300, 300)"
        raise SpecError(f"hidden expects {expected}, got {quote(hidden)}")
    latents = list(latent) if isinstance(latent, (list, tuple)) else [latent]
    if not are_sizes(latents) or len(latents) not in (1, levels):
        more = " (a pair is for --model two-level)" if levels == 1 else ", or a pair for z1 and z2"
        expected = f"a dimension of at least 1{more}"
        raise SpecError(f"latent expects {expected}, got {quote(latent)}")

    def decode(body):
        parts = [body] if trunk is None else [body, trunk(body.features, shape, activation)]
        parts.append(LIKELIHOODS[likelihood.name](likelihood, parts[-1].features, shape))
        return conditional_decoder(nn.Sequential(*parts))

    sizes = f"hidden {quote(tuple(hidden))}, latent {quote(latent)} and images of shape {quote(shape)}"
    with Allowance(f"a model with prior '{prior}', flow '{flow}', {sizes}", "choose smaller ones"):
        return program(
            middle=lambda features, latent: MIDDLES.get(posterior.name, MIDDLES["normal"])(features, latent),
            prior=lambda guide, latent: PRIORS_OF.get(posterior.name, PRIORS_OF["normal"])[prior.name](
                prior, guide, latent, inputs, images
            ),
            posterior=lambda features, latent, flow: (
                head(posterior, features, latent),
                FLOWS[flow.name](flow, features, latent),
            ),
            encode=lambda widths: conditional_encoder(encoder(shape, widths, activation, final)),
            decode=decode,
            hidden=tuple(hidden),
            activation=activation,
            latents=latents * (levels // len(latents)),
            flows=flows,
            given=given,
        )


def aggregate(guide, images):
    """The aggregated posterior 1/N Σ q(z | x_n) over training images, the prior that maximises the ELBO of this guide.

    It is a VampPrior whose pseudo-inputs are all the images: too many to train with, fine to score with.
    """
    return VampPrior(guide.q, images.shape[1:], len(images), images=images, trainable=False)


@torch.no_grad()
def fitted_mixture(model, guide, images, components=10, seed=0):
    """A mixture of Gaussians fitted to the codes of the training images, a draw from q(z | x) each: z's, or z2's.

    Raises:
        ValueError: as `FittedMixture.fit`.
    """
    with seeded(seed, device=images.device):
        _, _, posteriors = top_level(model, guide, images)
        codes = torch.cat([q.sample() for q in posteriors])
    return FittedMixture.fit(codes, components, seed)


def ex_post(spec, model, guide, images, seed=0):
    """The prior that is put in place of the trained one for scoring: `aggregate`, or `gmm[:K]` (arXiv:1903.12436).

    Raises:
        SpecError: for another spec, or more components than the images' codes can tell.

    >>> model, guide = assemble(posterior="delta", hidden=(8,), latent=2, shape=(1, 4, 4))
    >>> ex_post("gmm:3", model, guide, torch.rand(50, 1, 4, 4))
    FittedMixture(3 components with full covariances, 2)
    """
    spec = parse("scoring prior", spec)
    try:
        return EX_POST[spec.name](spec, model, guide, images, seed)
    except ValueError as error:
        raise SpecError(f"prior '{spec}': {error}") from None


EX_POST = {
    "aggregate": lambda spec, model, guide, images, seed: aggregate(guide, images),
    "gmm": lambda spec, model, guide, images, seed: fitted_mixture(model, guide, images, spec.n, seed),
}


def load(folder, contents=None):
    """The trained (model, guide) of a run's folder: its best epoch so far, in evaluation mode.

    Args:
        folder: of a run, the value of its --out; it holds config.json and checkpoint.pt.
        contents: the bytes of its checkpoint, where they have been read.

    Raises:
        FileNotFoundError: where the folder holds no config.json.
        CheckpointError: where config.json or the checkpoint cannot be read, or they do not belong together.
        SpecError, CapacityError: as `assemble`.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no config.json, expected the folder of a run (the value of its --out)")
    try:
        config = json.loads(path.read_text())
        if not isinstance(config, dict):
            raise TypeError(f"expected an object, got {quote(config)}")
        parts = ADDED | {part: config[part] for part in PARTS if part in config or part not in ADDED}
        parts |= {name: config.get(name) for name in ("shape", "classes")}
        # For a prior that starts from data, until the checkpoint's weights replace them.
        inputs, *_ = CONDITIONS[parse("condition", parts["condition"]).name](parts["shape"], parts["classes"], None)
        count = parse("prior", parts["prior"]).n or 0
        model, guide = assemble(**parts, images=lambda: torch.zeros(count, *inputs))
    except KeyError as error:
        raise CheckpointError(f"{path} is not the config.json of a run: it lacks {error}") from None
    except (SpecError, CapacityError) as error:
        raise type(error)(f"{path}: {error}") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not the config.json of a run: {error}") from None
    path = Path(folder) / "checkpoint.pt"
    program = nn.ModuleList([model, guide])
    state = check_state(load_checkpoint(path, contents=contents), program, path)
    program.load_state_dict(state["best"]["weights"])
    return model.eval(), guide.eval()
