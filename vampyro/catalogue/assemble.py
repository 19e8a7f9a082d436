"""Spec strings to programs."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from vampyro import nets
from vampyro.catalogue.compatibility import check_posterior
from vampyro.catalogue.parts import MAX_LAYERS, Part, import_build, known, rows, user_parts
from vampyro.catalogue.specs import Spec, parse, parse_each
from vampyro.data.names import DataSet
from vampyro.errors import SpecError, quote
from vampyro.guides import Guide, TwoLevelGuide
from vampyro.memory import Allowance
from vampyro.models import VAE, TwoLevel

PARTS = ("model", "prior", "flow", "posterior", "net", "activation", "hidden", "latent", "likelihood", "condition")
Images = Tensor | Callable[[], Tensor] | None


def assemble(
    *,
    model: str = "vae",
    prior: str = "standard",
    flow: Any = "none",
    posterior: str = "normal",
    net: str = "mlp",
    activation: str = "gated",
    hidden: Any = (300, 300),
    latent: Any = 40,
    likelihood: str = "bernoulli",
    condition: str = "none",
    shape: Any = (1, 28, 28),
    classes: int | None = None,
    images: Images = None,
    parts: str | os.PathLike[str] | Iterable[Part | DataSet] | None = None,
) -> tuple[nn.Module, nn.Module]:
    """The Pyro programs (model, guide) that the spec strings name.

    Specs are written as on the command line.

    Args:
        activation: a spec, or two, "A,B": B in the last layer of every network that reads images, A in all others.
        flow: a spec; of the two-level model, one for both posteriors or two, "FLOW1,FLOW2", for z1 and z2.
        hidden: widths of the encoder's layers, and of the decoder's from the latent up.
        latent: dimension of z; of the two-level model, one for both or a pair, for z1 and z2. Posterior `vq` makes a
            code of every 4.
        shape: of an image, (channels, height, width).
        classes: number of labels, where the condition is a label: then programs take images and their labels in one
            tensor, (N, pixels + classes), as `ImageSet.labelled()` makes them.
        images: training images (N, *shape) in [0, 1], with labels where the condition is one, or a function that
            returns them, for priors that start from data.
        parts: your own `vampyro.catalogue.Part`s: a list, or a Python file with a list `PARTS`, which is executed.

    `model.recipe` keeps the arguments for `save` and `load`.

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
    >>> model, guide = assemble(condition="label", classes=10, hidden=(32,), latent=2)
    >>> model(batch=3, y=7)[:, 784:].argmax(1)      # next to 784 pixels the label
    tensor([7, 7, 7])
    """
    texts = {"model": model, "prior": prior, "posterior": posterior, "net": net}
    texts |= {"likelihood": likelihood, "condition": condition}
    with known(os.fspath(parts) if isinstance(parts, os.PathLike) else parts):
        specs = {family: parse(family, text) for family, text in texts.items()}
        levels = rows("model")[specs["model"].name].levels
        flows = parse_each("flow", flow, levels)
        check_posterior(specs["posterior"], prior=specs["prior"], flow=flow, model=specs["model"])
        latents = _check_sizes(shape, hidden, latent, levels)
        sizes = f"hidden {quote(tuple(hidden))}, latent {quote(latent)} and images of shape {quote(tuple(shape))}"
        with Allowance(f"a model with prior '{specs['prior']}', flow '{flow}', {sizes}", "choose smaller ones"):
            programs = _build(specs, flows, activation, tuple(hidden), latents, tuple(shape), classes, images)
        vars(programs[0])["recipe"] = {
            **{family: str(spec) for family, spec in specs.items()},
            "flow": ",".join(map(str, flows[: 1 if len(set(flows)) == 1 else None])),
            "activation": activation,
            "hidden": list(hidden),
            "latent": latent if isinstance(latent, int) else list(latent),
            "shape": list(shape),
            "classes": classes,
            "parts": user_parts().file,
            "parts_sha256": user_parts().sha256,
        }
    return programs


def _are_sizes(values: object) -> bool:
    return isinstance(values, (list, tuple)) and bool(values) and all(type(v) is int and v >= 1 for v in values)


def _check_sizes(shape: Any, hidden: Any, latent: Any, levels: int) -> list[int]:
    """The dimension of each latent; a SpecError for a shape of images, widths or latents that no such model has."""
    if not _are_sizes(shape):
        raise SpecError(f"shape expects that of an image, for example (1, 28, 28), got {quote(shape)}")
    if not _are_sizes(hidden) or len(hidden) > MAX_LAYERS:
        expected = f"the widths of at most {MAX_LAYERS} layers, for example (300, 300)"
        raise SpecError(f"hidden expects {expected}, got {quote(hidden)}")
    latents = list(latent) if isinstance(latent, (list, tuple)) else [latent]
    if not _are_sizes(latents) or len(latents) not in (1, levels):
        more = " (a pair is for --model two-level)" if levels == 1 else ", or a pair for z1 and z2"
        raise SpecError(f"latent expects a dimension of at least 1{more}, got {quote(latent)}")
    return latents * (levels // len(latents))


def input_shape(condition: str, shape: Sequence[int], classes: int | None) -> tuple[int, ...]:
    """The shape of what programs take: an image, or with condition "label" its pixels and its label in one vector."""
    if condition == "none":
        return tuple(shape)
    if not classes:
        raise SpecError("condition 'label' needs to know how many labels there are: pass classes=…, 10 of digits")
    return (math.prod(shape) + classes,)


def _build(
    specs: dict[str, Spec],
    flows: list[Spec],
    activation: str,
    hidden: tuple[int, ...],
    latents: list[int],
    shape: tuple[int, ...],
    classes: int | None,
    images: Images,
) -> tuple[nn.Module, nn.Module]:
    row = {family: rows(family)[spec.name] for family, spec in specs.items()}
    activation, final = (spec.name for spec in parse_each("activation", activation, 2))
    encoder, trunk = row["net"].builder()()
    inputs = input_shape(specs["condition"].name, shape, classes)
    labels: Any = 0 if specs["condition"].name == "none" else classes  # numbers next to the latent that a decoder takes

    def mlp(inputs: int, widths: Sequence[int]) -> nets.MLP:
        return nets.MLP((inputs,), widths, activation)

    def encode(widths: Sequence[int]) -> nn.Module:
        body = encoder(shape, widths, activation, final)
        return nets.ConditionalEncoder(body, shape, labels, final) if labels else body

    def posterior(body: Any, level: int) -> Guide:
        sizes, flow = (body.features, latents[level]), flows[level]
        head = row["posterior"].builder()(specs["posterior"], *sizes)
        return Guide(body, head, rows("flow")[flow.name].builder()(flow, *sizes))

    def prior(guide: nn.Module) -> nn.Module:
        builder = row["prior"].builder(row["posterior"].support)
        return builder(specs["prior"], guide, latents[-1], inputs, images)

    def decode(body: nn.Module) -> nn.Module:
        parts = [body] if trunk is None else [body, trunk(body.features, shape, activation)]
        parts.append(row["likelihood"].builder()(specs["likelihood"], parts[-1].features, shape))
        decoder = nn.Sequential(*parts)
        return nets.ConditionalDecoder(decoder, shape, labels) if labels else decoder

    if row["model"].levels == 1:
        guide = posterior(encode(hidden), 0)
        return VAE(prior(guide), decode(mlp(latents[0] + labels, hidden[::-1]))), guide
    # Two inputs meet before the last layer; with one layer only, each gets its own in addition.
    first, last = hidden[:-1] or hidden, hidden[-1:]
    upper = encode(hidden)
    lower = nets.Join(encode(first), mlp(latents[1], first), last, activation)
    between = mlp(latents[1], hidden[::-1])
    first, last = hidden[:0:-1] or hidden, hidden[:1]
    decoder = nets.Join(mlp(latents[0] + labels, first), mlp(latents[1], first), last, activation)
    pair = TwoLevelGuide(posterior(upper, 1), posterior(lower, 0))
    middle = nn.Sequential(between, import_build(row["posterior"].middle)(between.features, latents[0]))
    return TwoLevel(prior(pair), middle, decode(decoder)), pair


def build_objective(objective: str | Spec, shape: Sequence[int]) -> Any:
    """The objective of that spec, for programs whose inputs have that shape."""
    spec = parse("objective", objective)
    return rows("objective")[spec.name].builder()(spec, tuple(shape))


def ex_post(spec: str | Spec, model: nn.Module | None, guide: nn.Module, images: Tensor, seed: int = 0) -> nn.Module:
    """The prior that is put in place of the trained one for scoring: `aggregate`, or `gmm[:K]` (arXiv:1903.12436).

    Raises:
        SpecError: for another spec, or more components than the images' codes can tell.

    >>> import torch
    >>> model, guide = assemble(posterior="delta", hidden=(8,), latent=2, shape=(1, 4, 4))
    >>> ex_post("gmm:3", model, guide, torch.rand(50, 1, 4, 4))
    FittedMixture(3 components with full covariances, 2)
    """
    spec = parse("scoring prior", spec)
    try:
        return rows("scoring prior")[spec.name].builder()(spec, model, guide, images, seed)
    except ValueError as error:
        raise SpecError(f"prior '{spec}': {error}") from None
