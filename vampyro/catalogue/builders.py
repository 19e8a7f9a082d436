"""How parts are built: the functions that the rows of `vampyro.catalogue.parts` name."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vampyro import flows, nets, objectives, priors
from vampyro.catalogue.parts import row_of
from vampyro.catalogue.specs import Spec
from vampyro.diagnostics.surgery import top_level
from vampyro.errors import SpecError
from vampyro.guides import Guide, TwoLevelGuide
from vampyro.models import VAE, TwoLevel
from vampyro.programs.randomness import seeded

MAX_LEVELS = 2  # of latents, of a model here

# --- priors: (spec, guide, latent, shape, images)


def standard(spec: Spec, guide: Any, latent: int, shape: tuple, images: Any) -> nn.Module:
    return priors.StandardNormal(latent)


def standard_bits(spec: Spec, guide: Any, latent: int, shape: tuple, images: Any) -> nn.Module:
    return priors.StandardBernoulli(latent)


def uniform_codes(spec: Spec, guide: Any, latent: int, shape: tuple, images: Any) -> nn.Module:
    codebook = guide.head.codebook
    return priors.UniformCodes(codebook, latent // codebook().shape[1])


def autoregressive_codes(spec: Spec, guide: Any, latent: int, shape: tuple, images: Any) -> nn.Module:
    codebook = guide.head.codebook
    return priors.AutoregressivePrior(codebook, latent // codebook().shape[1])


def mog(spec: Spec, guide: Any, latent: int, shape: tuple, images: Any) -> nn.Module:
    return priors.MixtureOfGaussians(latent, spec.count, weighted="weighted" in spec.options)


def vamp(spec: Spec, guide: Any, latent: int, shape: tuple, images: Any) -> nn.Module:
    return _vamp(guide.q, spec, shape, images)


def vamp_base(spec: Spec, guide: Any, latent: int, shape: tuple, images: Any) -> nn.Module:
    return _vamp(guide.base, spec, shape, images)


def _vamp(q: Callable, spec: Spec, shape: tuple, images: Any) -> nn.Module:
    start = None
    if spec.options & {"from-data", "fixed"}:
        if images is None:
            raise SpecError(f"prior '{spec}' takes its pseudo-inputs from training images, and got none: pass images=…")
        images = images() if callable(images) else images
        if spec.count > len(images):
            raise SpecError(f"prior '{spec}' needs {spec.count} training images, got {len(images)}: choose a smaller N")
        start = images[torch.randperm(len(images))[: spec.count].to(images.device)]
    trainable, weighted = "fixed" not in spec.options, "weighted" in spec.options
    return priors.VampPrior(q, shape, spec.count, images=start, trainable=trainable, weighted=weighted)


def flow_prior(spec: Spec, guide: Any, latent: int, shape: tuple, images: Any) -> nn.Module:
    """One map of a Normal, by the flow of that name."""
    shared = Spec(spec.name, spec.n, frozenset({"shared"}))
    return priors.FlowPrior(row_of("flow", spec.name).builder()(shared, 0, latent), latent)


# --- priors for scoring, put in the place of the trained one: (spec, model, guide, images, seed)


def aggregate(spec: Spec, model: nn.Module | None, guide: Any, images: Tensor, seed: int) -> nn.Module:
    """The aggregated posterior 1/N Σ q(z | x_n) over training images, the prior that maximises the ELBO of this guide.

    It is a VampPrior whose pseudo-inputs are all the images: too many to train with, fine to score with.
    """
    return priors.VampPrior(guide.q, images.shape[1:], len(images), images=images, trainable=False)


@torch.no_grad()
def gmm(spec: Spec, model: nn.Module, guide: Any, images: Tensor, seed: int) -> nn.Module:
    """A mixture of Gaussians fitted to the codes of the training images, a sample of q(z | x) each: z's, or z2's.

    Raises:
        ValueError: as `FittedMixture.fit`.
    """
    with seeded(seed, device=images.device):
        _, _, posteriors = top_level(model, guide, images)
        codes = torch.cat([q.sample() for q in posteriors])
    return priors.FittedMixture.fit(codes, spec.count, seed)


# --- flows and heads of posteriors: (spec, features, latent)


def no_flow(spec: Spec, features: int, latent: int) -> None:
    return None


def _flow(kind: type) -> Callable[[Spec, int, int], nn.Module]:
    def build(spec: Spec, features: int, latent: int) -> nn.Module:
        return kind(features, latent, spec.count, shared="shared" in spec.options)

    return build


planar, radial, sylvester = _flow(flows.PlanarFlow), _flow(flows.RadialFlow), _flow(flows.SylvesterFlow)
iaf, coupling, spline = _flow(flows.IAFFlow), _flow(flows.CouplingFlow), _flow(flows.SplineFlow)


def normal(spec: Spec, features: int, latent: int) -> nn.Module:
    return nets.NormalHead(features, latent)


def delta(spec: Spec, features: int, latent: int) -> nn.Module:
    return nets.DeltaHead(features, latent)


def bits(spec: Spec, features: int, latent: int) -> nn.Module:
    return nets.BinaryHead(features, latent)


def quantiser(spec: Spec, features: int, latent: int) -> nn.Module:
    if latent % (size := nets.quantiser.DIMENSION):
        raise SpecError(
            f"posterior '{spec}' cuts z into codes of {size} numbers: expected a multiple as latent, got {latent}"
        )
    return nets.VectorQuantiser(features, latent, spec.count)


# --- likelihoods: (spec, features, shape)


def bernoulli(spec: Spec, features: Any, shape: tuple) -> nn.Module:
    return nets.BernoulliHead(features, shape)


def normal_image(spec: Spec, features: Any, shape: tuple) -> nn.Module:
    return nets.NormalImageHead(features, shape, learned="learned" in spec.options)


def logistic(spec: Spec, features: Any, shape: tuple) -> nn.Module:
    return nets.LogisticHead(features, shape)


def continuous_bernoulli(spec: Spec, features: Any, shape: tuple) -> nn.Module:
    return nets.ContinuousBernoulliHead(features, shape)


# --- nets: () → an encoder, and what stands between a decoder's MLP and its likelihood


def mlp() -> tuple[type, type | None]:
    return nets.MLP, None


def conv() -> tuple[type, type | None]:
    return nets.ConvEncoder, nets.ConvDecoder


def small_conv() -> tuple[type, type | None]:
    return nets.SmallConvEncoder, nets.SmallConvDecoder


# --- conditions: the shape of what programs are given, how many numbers a decoder is given next to its latent, and what
# an encoder's body and a decoder become


def given_nothing(shape: tuple, classes: int | None, activation: str | None) -> tuple:
    return tuple(shape), 0, lambda body: body, lambda images: images


def given_label(shape: tuple, classes: int | None, activation: str | None) -> tuple:
    if not classes:
        raise SpecError("condition 'label' needs to know how many labels there are: pass classes=…, 10 of digits")

    return (
        (math.prod(shape) + classes,),
        classes,
        lambda body: nets.ConditionalEncoder(body, shape, classes, activation or "gated"),
        lambda images: nets.ConditionalDecoder(images, shape, classes),
    )


# --- objectives: (spec, shape of the images)


def elbo(spec: Spec, shape: tuple) -> Any:
    analytic = "analytic" in spec.options
    if "enumerate" in spec.options:  # exact, its KL too
        return objectives.TraceEnum_ELBO()
    if "score" in spec.options:
        return objectives.TraceGraph_ELBO(nets.Baseline(shape, MAX_LEVELS), analytic)
    sampled = objectives.TraceMeanField_ELBO() if analytic else objectives.Trace_ELBO()
    return objectives.Relaxed(sampled) if "relaxed" in spec.options else sampled


def iwae(spec: Spec, shape: tuple) -> Any:
    return objectives.IWAE(spec.count)


def intro(spec: Spec, shape: tuple) -> Any:
    return objectives.Introspective(spec.count, reconstructions="reconstructions" in spec.options)


# --- models: the programs (model, guide) from their parts; `levels` of latents


def vae(prior, posterior, middle, encode, decode, hidden, activation, latents, flows, given) -> tuple[VAE, Guide]:
    body = encode(hidden)
    guide = Guide(body, *posterior(body.features, latents[0], flows[0]))
    return VAE(prior(guide, latents[0]), decode(nets.MLP((latents[0] + given,), hidden[::-1], activation))), guide


def two_level(
    prior, posterior, middle, encode, decode, hidden, activation, latents, flows, given
) -> tuple[TwoLevel, TwoLevelGuide]:
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
