"""Spec strings to programs."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from vampyro.catalogue.compatibility import check_posterior
from vampyro.catalogue.parts import MAX_LAYERS, Part, imported, known, row_of, user_parts
from vampyro.catalogue.specs import Spec, parse, parse_each
from vampyro.data.names import DataSet
from vampyro.errors import SpecError, quote
from vampyro.memory import Allowance

PARTS = ("model", "prior", "flow", "posterior", "net", "activation", "hidden", "latent", "likelihood", "condition")
Images = Tensor | Callable[[], Tensor] | None


@dataclass(frozen=True)
class Recipe:
    """How `assemble` made a pair of programs: its arguments but for images, and the user's file of parts."""

    model: str
    prior: str
    flow: str
    posterior: str
    net: str
    activation: str
    hidden: list[int]
    latent: int | list[int]
    likelihood: str
    condition: str
    shape: list[int]
    classes: int | None
    parts: str | None = None
    parts_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of config.json."""
        return asdict(self)


def are_sizes(values: object) -> bool:
    """Return whether these are positive whole numbers, in a list or tuple that is not empty."""
    return isinstance(values, (list, tuple)) and bool(values) and all(type(v) is int and v >= 1 for v in values)


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
        parts: rows of your own, which specs may name too: a Python file with a list `PARTS`, or that list
            (`vampyro.catalogue.Part`). A file is executed.

    `save` and `load` know how the two were made: what is not among the weights is kept in `model.recipe`.

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
    >>> model(batch=3, y=7)[:, 784:].argmax(1)      # next to 784 pixels the label
    tensor([7, 7, 7])
    """
    with known(os.fspath(parts) if isinstance(parts, os.PathLike) else parts):
        specs = {name: parse(name, text) for name, text in _single(model, prior, posterior, net, likelihood, condition)}
        row = row_of("model", specs["model"].name)
        flows = parse_each("flow", flow, row.levels)
        check_posterior(specs["posterior"], prior=specs["prior"], flow=flow, model=specs["model"])
        check_sizes(shape, hidden, latent, row.levels)
        sizes = f"hidden {quote(tuple(hidden))}, latent {quote(latent)} and images of shape {quote(tuple(shape))}"
        with Allowance(f"a model with prior '{specs['prior']}', flow '{flow}', {sizes}", "choose smaller ones"):
            programs = _build(specs, flows, activation, tuple(hidden), latent, tuple(shape), classes, images)
        user = user_parts()
        vars(programs[0])["recipe"] = Recipe(
            **{name: str(spec) for name, spec in specs.items()},
            flow=",".join(map(str, flows[: 1 if len(set(flows)) == 1 else None])),
            activation=activation,
            hidden=list(hidden),
            latent=latent if isinstance(latent, int) else list(latent),
            shape=list(shape),
            classes=classes,
            parts=user.file,
            parts_sha256=user.sha256,
        )
    return programs


def _single(*texts: str) -> list[tuple[str, str]]:
    return list(zip(("model", "prior", "posterior", "net", "likelihood", "condition"), texts))


def check_sizes(shape: Any, hidden: Any, latent: Any, levels: int) -> None:
    """Reject a shape of images, widths or latents that no model of so many levels has.

    Raises:
        SpecError: begins with the argument.
    """
    if not are_sizes(shape):
        raise SpecError(f"shape expects that of an image, for example (1, 28, 28), got {quote(shape)}")
    if not are_sizes(hidden) or len(hidden) > MAX_LAYERS:
        expected = f"the widths of at most {MAX_LAYERS} layers, for example (300, 300)"
        raise SpecError(f"hidden expects {expected}, got {quote(hidden)}")
    latents = list(latent) if isinstance(latent, (list, tuple)) else [latent]
    if not are_sizes(latents) or len(latents) not in (1, levels):
        more = " (a pair is for --model two-level)" if levels == 1 else ", or a pair for z1 and z2"
        raise SpecError(f"latent expects a dimension of at least 1{more}, got {quote(latent)}")


def _build(
    specs: dict[str, Spec],
    flows: list[Spec],
    activation: str,
    hidden: tuple[int, ...],
    latent: int | Sequence[int],
    shape: tuple[int, ...],
    classes: int | None,
    images: Images,
) -> tuple[nn.Module, nn.Module]:
    rows = {family: row_of(family, spec.name) for family, spec in specs.items()}
    activation, final = (spec.name for spec in parse_each("activation", activation, 2))
    encoder, trunk = rows["net"].builder()()
    inputs, given, conditional_encoder, conditional_decoder = rows["condition"].builder()(shape, classes, final)
    kind, levels = rows["posterior"].support, rows["model"].levels
    latents = list(latent) if isinstance(latent, (list, tuple)) else [latent]

    def decode(body: nn.Module) -> nn.Module:
        parts = [body] if trunk is None else [body, trunk(body.features, shape, activation)]
        parts.append(rows["likelihood"].builder()(specs["likelihood"], parts[-1].features, shape))
        return conditional_decoder(nn.Sequential(*parts))

    return rows["model"].builder()(
        middle=lambda features, latent: imported(rows["posterior"].middle)(features, latent),
        prior=lambda guide, latent: rows["prior"].builder(kind)(specs["prior"], guide, latent, inputs, images),
        posterior=lambda features, latent, flow: (
            rows["posterior"].builder()(specs["posterior"], features, latent),
            row_of("flow", flow.name).builder()(flow, features, latent),
        ),
        encode=lambda widths: conditional_encoder(encoder(shape, widths, activation, final)),
        decode=decode,
        hidden=hidden,
        activation=activation,
        latents=latents * (levels // len(latents)),
        flows=flows,
        given=given,
    )


def build_objective(objective: str | Spec, shape: Sequence[int]) -> Any:
    """The objective of that spec, for what programs are given of that shape.

    >>> type(build_objective("iwae:3", (1, 28, 28))).__name__
    'IWAE'
    """
    spec = parse("objective", objective)
    return row_of("objective", spec.name).builder()(spec, tuple(shape))


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
        return row_of("scoring prior", spec.name).builder()(spec, model, guide, images, seed)
    except ValueError as error:
        raise SpecError(f"prior '{spec}': {error}") from None
