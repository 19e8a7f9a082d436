"""Spec strings to programs: the only place that branches on a name."""

import json
from pathlib import Path

import torch
from torch import nn

from flows.planar import PlanarFlow
from guides import Guide
from inference.checkpoint import CheckpointError, load_checkpoint, load_weights
from models import VAE
from nets import MLP, BernoulliHead, NormalHead
from priors import MixtureOfGaussians, StandardNormal, VampPrior
from specs import SpecError, parse


def standard(spec, guide, latent, shape, images):
    return StandardNormal(latent)


def mog(spec, guide, latent, shape, images):
    return MixtureOfGaussians(latent, spec.n, weighted="weighted" in spec.options)


def vamp(spec, guide, latent, shape, images):
    start = None
    if spec.options & {"from-data", "fixed"}:
        if images is None:
            raise SpecError(f"prior '{spec}' takes its pseudo-inputs from training images, and got none: pass images=…")
        images = images() if callable(images) else images
        if spec.n > len(images):
            raise SpecError(f"prior '{spec}' wants {spec.n} training images, but there are {len(images)}")
        start = images[torch.randperm(len(images))[: spec.n].to(images.device)]
    return VampPrior(
        guide.q, shape, spec.n, images=start, trainable="fixed" not in spec.options, weighted="weighted" in spec.options
    )


def planar(spec, features, latent):
    return PlanarFlow(features, latent, length=spec.n, shared="shared" in spec.options)


PRIORS = {"standard": standard, "mog": mog, "vamp": vamp}
FLOWS = {"none": lambda spec, features, latent: None, "planar": planar}
NETS = {"mlp": MLP}
LIKELIHOODS = {"bernoulli": BernoulliHead}
POSTERIORS = {"normal": NormalHead}
MODELS = {"vae": (VAE, Guide)}
PARTS = ("model", "prior", "flow", "posterior", "net", "activation", "hidden", "latent", "likelihood")


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
    shape=(1, 28, 28),
    images=None,
):
    """The Pyro programs (model, guide) that the spec strings name.

    Args:
        model, prior, flow, posterior, net, activation, likelihood: spec strings, as on the command line.
        hidden: widths of the encoder's layers, and of the decoder's from the latent up.
        latent: dimension of z.
        shape: of an image, (channels, height, width).
        images: training images (N, *shape) in [0, 1], or a function that returns them, for priors that start from data.

    Raises:
        SpecError: for a spec that cannot be read, or a pair of parts that do not fit.

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
    """
    prior, flow = parse("prior", prior), parse("flow", flow)
    program, guide_program = MODELS[parse("model", model).name]
    net, activation = NETS[parse("net", net).name], parse("activation", activation).name
    posterior = POSTERIORS[parse("posterior", posterior).name]
    likelihood = LIKELIHOODS[parse("likelihood", likelihood).name]
    if not isinstance(hidden, (list, tuple)) or not hidden or min(hidden) < 1:
        raise SpecError(f"hidden expects the widths of the layers, (300, 300) say, got {hidden!r}")
    if latent < 1:
        raise SpecError(f"latent expects a dimension of at least 1, got {latent}")

    encoder = net(shape, hidden, activation)
    guide = guide_program(
        encoder, posterior(encoder.features, latent), FLOWS[flow.name](flow, encoder.features, latent)
    )
    decoder = net((latent,), hidden[::-1], activation)
    decoder = nn.Sequential(decoder, likelihood(decoder.features, shape))
    return program(PRIORS[prior.name](prior, guide, latent, shape, images), decoder), guide


def load(folder):
    """The trained (model, guide) of a run's folder: its best epoch so far.

    Raises:
        FileNotFoundError: where there is no config.json.
        CheckpointError: where the checkpoint is missing, cannot be read or belongs to another config.json.
    """
    config = json.loads((Path(folder) / "config.json").read_text())
    start = torch.zeros(parse("prior", config["prior"]).n or 0, *config["shape"])  # from-data: the weights replace it
    model, guide = assemble(**{part: config[part] for part in PARTS}, shape=config["shape"], images=start)
    path = Path(folder) / "checkpoint.pt"
    try:
        weights = load_checkpoint(path)["best"]["weights"]
    except LookupError as error:
        raise CheckpointError(f"{path} is no checkpoint of a run: {error!r} is missing") from None
    load_weights(nn.ModuleList([model, guide]), weights, path)
    return model, guide
