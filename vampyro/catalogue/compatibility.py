"""Reject parts that do not fit together, according to their catalogue rows. Imports no torch."""

from vampyro.catalogue.parts import BITS, CODES, ESTIMATORS, LATENTS, POINTS, rows
from vampyro.catalogue.specs import Spec, parse
from vampyro.errors import SpecError

# What images hold, each kind a subset of the next; a likelihood has mass or density on one of them.
VALUES = {
    "binary": "black and white, 0 and 1",
    "levels": "{kind}, of the 256 levels k/255",
    "unit": "{kind}, anywhere in [0, 1]",
    "real": "any real number",
}
MAX_BITS = 12  # for `elbo:enumerate`: 4096 terms an image, as many as BernoulliVector enumerates


def check_likelihood(likelihood: str | Spec, values: str, name: str, kind: str = "grey") -> None:
    """Reject a likelihood without mass where the images are; `values` and `kind` are those of an `ImageSet`.

    >>> check_likelihood("normal", "binary", "static-mnist")
    >>> check_likelihood("bernoulli", "levels", "mnist")    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vampyro.errors.SpecError: likelihood 'bernoulli' is for images that are black and white, 0 and 1, but mnist is ...
    """
    likelihood = parse("likelihood", likelihood)
    order = list(VALUES)
    support = rows("likelihood")[likelihood.name].support
    if order.index(values) > order.index(support):
        fitting = [row.name for row in rows("likelihood").values() if order.index(values) <= order.index(row.support)]
        raise SpecError(
            f"likelihood '{likelihood}' is for images that are {VALUES[support].format(kind=kind)}, but {name} is "
            f"{VALUES[values].format(kind=kind)}: "
            f"choose --likelihood {' or '.join(fitting)}"
            + (", or --binarize dynamic or threshold" if support == "binary" else "")
        )


def resolve_objective(objective: str | Spec, posterior: str | Spec) -> str:
    """The objective in full: for binary latents an ELBO has the relaxed gradient unless another estimator is named.

    >>> resolve_objective("elbo:analytic", "normal"), resolve_objective("elbo:analytic", "bernoulli")
    ('elbo:analytic', 'elbo:analytic:relaxed')
    """
    objective = parse("objective", objective)
    named = objective.name != "elbo" or objective.options & set(ESTIMATORS)
    if named or rows("posterior")[parse("posterior", posterior).name].support != BITS:
        return str(objective)
    return str(parse("objective", f"{objective}:relaxed"))


def fitting(posterior: str, family: str) -> list[str]:
    """The names of a family that go with a posterior.

    >>> fitting("delta", "scoring prior")
    ['own', 'gmm']
    """
    latents = rows("posterior")[posterior].support
    return [row.name for row in rows(family).values() if latents in row.on]


def check_posterior(posterior: str | Spec, *, bits: int = 0, **parts: str | Spec) -> None:
    """Reject parts that do not go with a posterior, as they are for other kinds of latents or need a density.

    Args:
        bits: number of latents, for an objective that sums them out.
        parts: specs by family; flow may be two with a comma between.

    >>> check_posterior("bernoulli", prior="vamp:50", objective="elbo:score")
    >>> check_posterior("bernoulli", flow="planar:5")    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vampyro.errors.SpecError: flow 'planar:5' does not go with posterior 'bernoulli', whose latents are bits: it ...
    """
    posterior = parse("posterior", posterior)
    row = rows("posterior")[posterior.name]
    for family, text in parts.items():
        for spec in [parse(family, part) for part in str(text).split(",")]:
            fits = row.support in rows(family)[spec.name].on
            why = _no_estimator(spec, row.support, bits) if fits and family == "objective" else ""
            if not fits:
                kinds = " or ".join(LATENTS[kind] for kind in rows(family)[spec.name].on)
                why = f"{row.why.get(family, f'it is for {kinds}')}; choose --{family.split()[-1]} "
                why += " or ".join(fitting(posterior.name, family))
            if why:
                raise SpecError(
                    f"{family} '{spec}' does not go with posterior '{posterior}', whose latents are "
                    f"{LATENTS[row.support]}: {why}"
                )
    specs = {family: parse(family, parts[family]).name for family in ("objective", "condition") if family in parts}
    if specs == {"objective": "intro", "condition": "label"}:
        raise SpecError(
            f"objective '{parts['objective']}' does not go with condition 'label': images drawn for a label "
            "have no gradient yet; choose --objective elbo"
        )


def _no_estimator(objective: Spec, latents: str, bits: int) -> str:
    """Why these latents have no such gradient, or nothing."""
    if latents == POINTS and objective.options:
        return "the KL of a point from a density is infinite; choose --objective elbo"
    if latents == CODES and "analytic" in objective.options:
        return "q is a point in training, with no KL to take in closed form; choose --objective elbo"
    estimator = objective.options & set(ESTIMATORS)
    if estimator and latents != BITS:
        return f"{min(estimator)!r} is for bits; choose --objective elbo"
    if "enumerate" in estimator and bits > MAX_BITS:
        return f"{bits} of them have 2^{bits} values, and at most {MAX_BITS} are summed out; choose a smaller --latent"
    return ""
