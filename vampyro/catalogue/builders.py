"""How our parts are built: BUILDERS[family][name], for the rows of `vampyro.catalogue.parts`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vampyro import flows, nets, objectives, priors
from vampyro.catalogue.parts import BITS, CODES, POINTS, REAL, rows
from vampyro.catalogue.specs import Spec
from vampyro.diagnostics.surgery import top_level
from vampyro.errors import SpecError
from vampyro.programs.randomness import seeded

MAX_LEVELS = 2  # of latents, of a model here


def _on_codes(kind: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The builder of a prior over the codes of the guide's codebook."""

    def build(spec: Spec, guide: Any, latent: int, shape: tuple, images: Any) -> nn.Module:
        codebook = guide.head.codebook
        return kind(codebook, latent // codebook().shape[1])

    return build


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
    return priors.FlowPrior(rows("flow")[spec.name].builder()(shared, 0, latent), latent)


def _aggregate(spec: Spec, model: nn.Module | None, guide: Any, images: Tensor, seed: int) -> nn.Module:
    """The aggregated posterior 1/N Σ q(z | x_n): a VampPrior whose pseudo-inputs are all training images."""
    return priors.VampPrior(guide.q, images.shape[1:], len(images), images=images, trainable=False)


@torch.no_grad()
def _gmm(spec: Spec, model: nn.Module, guide: Any, images: Tensor, seed: int) -> nn.Module:
    """A mixture of Gaussians fitted to a sample of q(z | x) for each training image; of two levels, of z2."""
    with seeded(seed, device=images.device):
        _, _, posteriors = top_level(model, guide, images)
        codes = torch.cat([q.sample() for q in posteriors])
    return priors.FittedMixture.fit(codes, spec.count, seed)


def _flow(kind: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    return lambda spec, features, latent: kind(features, latent, spec.count, shared="shared" in spec.options)


def _quantiser(spec: Spec, features: int, latent: int) -> nn.Module:
    if latent % (size := nets.quantiser.DIMENSION):
        raise SpecError(
            f"posterior '{spec}' cuts z into codes of {size} numbers: expected a multiple as latent, got {latent}"
        )
    return nets.VectorQuantiser(features, latent, spec.count)


def _elbo(spec: Spec, shape: tuple) -> Any:
    analytic = "analytic" in spec.options
    if "enumerate" in spec.options:  # exact, its KL too
        return objectives.TraceEnum_ELBO()
    if "score" in spec.options:
        return objectives.TraceGraph_ELBO(nets.Baseline(shape, MAX_LEVELS), analytic)
    sampled = objectives.TraceMeanField_ELBO() if analytic else objectives.Trace_ELBO()
    return objectives.Relaxed(sampled) if "relaxed" in spec.options else sampled


def _standard(spec: Spec, guide: Any, latent: int, *_: Any) -> nn.Module:
    return priors.StandardNormal(latent)


BUILDERS: dict[str, dict[str, Any]] = {
    "prior": {  # (spec, guide, latent, shape, images)
        "standard": {
            REAL: _standard,
            POINTS: _standard,
            BITS: lambda spec, guide, latent, *_: priors.StandardBernoulli(latent),
            CODES: _on_codes(priors.UniformCodes),
        },
        "autoregressive": _on_codes(priors.AutoregressivePrior),
        "mog": lambda spec, guide, latent, *_: priors.MixtureOfGaussians(
            latent, spec.count, weighted="weighted" in spec.options
        ),
        "vamp": lambda spec, guide, latent, shape, images: _vamp(guide.q, spec, shape, images),
        "vamp-base": lambda spec, guide, latent, shape, images: _vamp(guide.base, spec, shape, images),
    },
    "scoring prior": {"aggregate": _aggregate, "gmm": _gmm},  # (spec, model, guide, images, seed)
    "flow": {  # (spec, features, latent)
        "none": lambda spec, features, latent: None,
        "planar": _flow(flows.PlanarFlow),
        "radial": _flow(flows.RadialFlow),
        "sylvester": _flow(flows.SylvesterFlow),
        "iaf": _flow(flows.IAFFlow),
        "coupling": _flow(flows.CouplingFlow),
        "spline": _flow(flows.SplineFlow),
    },
    "posterior": {  # (spec, features, latent)
        "normal": lambda spec, *sizes: nets.NormalHead(*sizes),
        "delta": lambda spec, *sizes: nets.DeltaHead(*sizes),
        "bernoulli": lambda spec, *sizes: nets.BinaryHead(*sizes),
        "vq": _quantiser,
    },
    "likelihood": {  # (spec, features, shape)
        "bernoulli": lambda spec, *sizes: nets.BernoulliHead(*sizes),
        "normal": lambda spec, features, shape: nets.NormalImageHead(features, shape, "learned" in spec.options),
        "logistic": lambda spec, *sizes: nets.LogisticHead(*sizes),
        "continuous-bernoulli": lambda spec, *sizes: nets.ContinuousBernoulliHead(*sizes),
    },
    "net": {  # ()
        "mlp": lambda: (nets.MLP, None),
        "conv": lambda: (nets.ConvEncoder, nets.ConvDecoder),
        "small-conv": lambda: (nets.SmallConvEncoder, nets.SmallConvDecoder),
    },
    "objective": {  # (spec, shape)
        "elbo": _elbo,
        "iwae": lambda spec, shape: objectives.IWAE(spec.count),
        "intro": lambda spec, shape: objectives.Introspective(
            spec.count, reconstructions="reconstructions" in spec.options
        ),
    },
}
