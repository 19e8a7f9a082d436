"""Names to builders: each dict is a family of specs, each builder makes one part."""

import math

import torch

from vampyro import nets
from vampyro.errors import SpecError
from vampyro.flows import CouplingFlow, IAFFlow, PlanarFlow, RadialFlow, SplineFlow, SylvesterFlow
from vampyro.objectives import (
    IWAE,
    Introspective,
    Relaxed,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from vampyro.priors import (
    AutoregressivePrior,
    FlowPrior,
    MixtureOfGaussians,
    StandardBernoulli,
    StandardNormal,
    UniformCodes,
    VampPrior,
)


def standard(spec, guide, latent, shape, images):
    return StandardNormal(latent)


def mog(spec, guide, latent, shape, images):
    return MixtureOfGaussians(latent, spec.n, weighted="weighted" in spec.options)


def vamp(spec, guide, latent, shape, images):
    return _vamp(guide.q, spec, shape, images)


def vamp_base(spec, guide, latent, shape, images):
    return _vamp(guide.base, spec, shape, images)


def _vamp(q, spec, shape, images):
    start = None
    if spec.options & {"from-data", "fixed"}:
        if images is None:
            raise SpecError(f"prior '{spec}' takes its pseudo-inputs from training images, and got none: pass images=…")
        images = images() if callable(images) else images
        if spec.n > len(images):
            raise SpecError(f"prior '{spec}' needs {spec.n} training images, got {len(images)}: choose a smaller N")
        start = images[torch.randperm(len(images))[: spec.n].to(images.device)]
    return VampPrior(
        q, shape, spec.n, images=start, trainable="fixed" not in spec.options, weighted="weighted" in spec.options
    )


def flow_prior(spec, guide, latent, shape, images):
    return FlowPrior(TRANSFORMS[spec.name](0, latent, spec.n, shared=True), latent)


def codes(prior):
    """A prior over vectors of codes, which borrows the guide's codebook."""

    def build(spec, guide, latent, shape, images):
        codebook = guide.head.codebook
        return prior(codebook, latent // codebook().shape[1])

    return build


def quantiser(spec, features, latent):
    if latent % (size := nets.quantiser.DIMENSION):
        raise SpecError(
            f"posterior '{spec}' cuts z into codes of {size} numbers: expected a multiple as latent, got {latent}"
        )
    return nets.VectorQuantiser(features, latent, spec.n)


def no_flow(spec, features, latent):
    return None


def flow(spec, features, latent):
    return TRANSFORMS[spec.name](features, latent, spec.n, shared="shared" in spec.options)


def given_nothing(shape, classes, activation):
    return tuple(shape), 0, lambda body: body, lambda images: images


def given_label(shape, classes, activation):
    if not classes:
        raise SpecError("condition 'label' needs to know how many labels there are: pass classes=…, 10 of digits")

    return (
        (math.prod(shape) + classes,),
        classes,
        lambda body: nets.ConditionalEncoder(body, shape, classes, activation),
        lambda images: nets.ConditionalDecoder(images, shape, classes),
    )


TRANSFORMS = {
    "planar": PlanarFlow,
    "radial": RadialFlow,
    "sylvester": SylvesterFlow,
    "iaf": IAFFlow,
    "coupling": CouplingFlow,
    "spline": SplineFlow,
}


LATENTS = 2  # of a model here, at most


FLOWS = {"none": no_flow, **dict.fromkeys(TRANSFORMS, flow)}


PRIORS = {
    "standard": standard,
    "mog": mog,
    "vamp": vamp,
    "vamp-base": vamp_base,
    **dict.fromkeys(TRANSFORMS, flow_prior),
}


# Where a posterior does not live on real vectors, there are priors of its own.
PRIORS_OF = {
    "normal": PRIORS,
    "delta": PRIORS,
    "bernoulli": PRIORS | {"standard": lambda spec, guide, latent, shape, images: StandardBernoulli(latent)},
    "vq": {"standard": codes(UniformCodes), "autoregressive": codes(AutoregressivePrior)},
}


POSTERIORS = {
    "normal": lambda spec, *sizes: nets.NormalHead(*sizes),
    "delta": lambda spec, *sizes: nets.DeltaHead(*sizes),
    "bernoulli": lambda spec, *sizes: nets.BinaryHead(*sizes),
    "vq": quantiser,
}


MIDDLES = {  # of two levels, p(z1 | z2)
    "normal": nets.NormalHead,
    "delta": nets.NormalHead,
    "bernoulli": nets.BinaryHead,
}


def elbo(spec, shape):
    analytic = "analytic" in spec.options
    if "enumerate" in spec.options:  # exact, its KL too
        return TraceEnum_ELBO()
    if "score" in spec.options:
        return TraceGraph_ELBO(nets.Baseline(shape, LATENTS), analytic)
    sampled = TraceMeanField_ELBO() if analytic else Trace_ELBO()
    return Relaxed(sampled) if "relaxed" in spec.options else sampled


# An encoder, and what stands between a decoder's MLP and its likelihood.
NETS = {
    "mlp": (nets.MLP, None),
    "conv": (nets.ConvEncoder, nets.ConvDecoder),
    "small-conv": (nets.SmallConvEncoder, nets.SmallConvDecoder),
}


LIKELIHOODS = {
    "bernoulli": lambda spec, features, shape: nets.BernoulliHead(features, shape),
    "normal": lambda spec, features, shape: nets.NormalImageHead(features, shape, learned="learned" in spec.options),
    "logistic": lambda spec, features, shape: nets.LogisticHead(features, shape),
    "continuous-bernoulli": lambda spec, features, shape: nets.ContinuousBernoulliHead(features, shape),
}


# The shape of what programs are given, how many numbers a decoder is given beside its latent, and what an encoder's
# body and a decoder become.
CONDITIONS = {"none": given_nothing, "label": given_label}


OBJECTIVES = {
    "elbo": elbo,
    "iwae": lambda spec, shape: IWAE(spec.n),
    "intro": lambda spec, shape: Introspective(spec.n, reconstructions="reconstructions" in spec.options),
}
