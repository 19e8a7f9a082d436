"""Which parts fit which: refused is a pair of other supports, or without a density. Pure Python."""

from vampyro.catalogue.specs import ESTIMATORS, FAMILIES, parse
from vampyro.errors import SpecError

# What images hold, each kind a subset of the next, and what a likelihood has mass or density on.
VALUES = {
    "binary": "black and white, 0 and 1",
    "levels": "{kind}, of the 256 levels k/255",
    "unit": "{kind}, anywhere in [0, 1]",
    "real": "any real number",
}


LIKELIHOODS = {"bernoulli": "binary", "logistic": "levels", "continuous-bernoulli": "unit", "normal": "real"}


def check_likelihood(likelihood, values, name, kind="grey"):
    """Refuses a likelihood without mass where the images are.

    Args:
        likelihood: a spec.
        values: a key of VALUES, as `ImageSet.values`.
        name: of the images.
        kind: `grey`, `colour` or `multi-channel`, as `ImageSet.kind`.

    >>> check_likelihood("normal", "binary", "static-mnist")
    >>> check_likelihood("bernoulli", "levels", "mnist")    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vampyro.errors.SpecError: likelihood 'bernoulli' is for images that are black and white, 0 and 1, but mnist is ...
    """
    likelihood = parse("likelihood", likelihood)
    order = list(VALUES)
    support = LIKELIHOODS.get(likelihood.name, "real")  # of a likelihood of your own
    if order.index(values) > order.index(support):
        fitting = [other for other, kind in LIKELIHOODS.items() if order.index(values) <= order.index(kind)]
        raise SpecError(
            f"likelihood '{likelihood}' is for images that are {VALUES[support].format(kind=kind)}, but {name} is "
            f"{VALUES[values].format(kind=kind)}: "
            f"choose --likelihood {' or '.join(fitting)}"
            + (", or --binarize dynamic or threshold" if support == "binary" else "")
        )


def all_but(family, *names):
    """Asked for when it is needed: a part of your own, put in `FAMILIES` at run time, is among them."""
    return lambda: [name for name in FAMILIES[family] if name not in names]


# Of each posterior: what its latents are, and for a family of parts the names that go with it and why others do not.
POSTERIORS = {
    "normal": (
        "real numbers",
        {"prior": (all_but("prior", "autoregressive"), "it is over a codebook's codes")},
    ),
    "delta": (
        "points",
        {
            "prior": (
                ["standard"],
                "mixed points have no density, and a learned prior has one without bound",
            ),
            "scoring prior": (["own", "gmm"], "mixed points have no density"),
            "flow": (["none"], "a point that flows is another point"),
            "objective": (["elbo"], "samples of a point are one, and its KL from a density is infinite"),
        },
    ),
    "bernoulli": (
        "bits",
        {
            "prior": (["standard", "vamp", "vamp-base"], "it is a density over real numbers"),
            "scoring prior": (["own", "aggregate"], "it is a density over real numbers"),
            "flow": (["none"], "it bends a density over real numbers"),
            "objective": (["elbo"], "its gradient goes through samples, and bits have none"),
        },
    ),
    "vq": (
        "a codebook's codes",
        {
            "prior": (["standard", "autoregressive"], "it does not live there"),
            "scoring prior": (["own", "aggregate"], "it does not live there"),
            "flow": (["none"], "it bends a density over real numbers"),
            "model": (["vae"], "its lower level is given a vector of real numbers, or bits"),
            "objective": (
                ["elbo"],
                "samples of a point are one, and its KL does not move with the encoder",
            ),
        },
    ),
}


MOST_BITS = 12  # that are summed out: 4096 terms an image


def resolve_objective(objective, posterior):
    """The objective in full: of binary latents an ELBO's gradient is relaxed where no other estimator is named.

    >>> resolve_objective("elbo:analytic", "normal"), resolve_objective("elbo:analytic", "bernoulli")
    ('elbo:analytic', 'elbo:analytic:relaxed')
    """
    objective = parse("objective", objective)
    named = objective.name != "elbo" or objective.options & set(ESTIMATORS)
    if named or parse("posterior", posterior).name != "bernoulli":
        return str(objective)
    return str(parse("objective", f"{objective}:relaxed"))


def fitting(posterior, family):
    """The names of a family that go with a posterior, None where all do, and why others do not.

    >>> fitting("delta", "scoring prior")
    (['own', 'gmm'], 'mixed points have no density')
    """
    _, parts = POSTERIORS.get(posterior, POSTERIORS["normal"])  # a posterior of your own is over real vectors too
    names, why = parts.get(family, (None, ""))
    return names() if callable(names) else names, why


def check_posterior(posterior, *, bits=0, **parts):
    """Refuses what cannot go with a posterior, as its latents live elsewhere or have no density.

    Args:
        posterior: a spec.
        bits: how many latents there are in all, for an objective that sums them out.
        parts: specs by family (prior, flow, model, objective, condition); flow may be two with a comma between.

    >>> check_posterior("bernoulli", prior="vamp:50", objective="elbo:score")
    >>> check_posterior("bernoulli", flow="planar:5")    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vampyro.errors.SpecError: flow 'planar:5' does not go with posterior 'bernoulli', whose latents are bits: it ...
    """
    posterior = parse("posterior", posterior)
    latents, _ = POSTERIORS.get(posterior.name, POSTERIORS["normal"])
    for family, text in parts.items():
        names, reason = fitting(posterior.name, family)
        for spec in [parse(family, part) for part in str(text).split(",")]:
            fits = names is None or spec.name in names
            why = reason if not fits else _no_estimator(spec, posterior, bits) if family == "objective" else ""
            if why:
                raise SpecError(
                    f"{family} '{spec}' does not go with posterior '{posterior}', whose latents are {latents}: {why}"
                    + ("" if fits else f"; choose --{family.split()[-1]} {' or '.join(names)}")
                )
    specs = {family: parse(family, parts[family]).name for family in ("objective", "condition") if family in parts}
    if specs == {"objective": "intro", "condition": "label"}:
        raise SpecError(
            f"objective '{parts['objective']}' does not go with condition 'label': images drawn for a label "
            "have no gradient yet; choose --objective elbo"
        )


def _no_estimator(objective, posterior, bits):
    """Why these latents have no such gradient, or nothing."""
    if posterior.name == "delta" and objective.options:
        return "the KL of a point from a density is infinite; choose --objective elbo"
    if posterior.name == "vq" and "analytic" in objective.options:
        return "q is a point in training, with no KL to take in closed form; choose --objective elbo"
    estimator = objective.options & set(ESTIMATORS)
    if estimator and posterior.name != "bernoulli":
        return f"{min(estimator)!r} is for bits; choose --objective elbo"
    if "enumerate" in estimator and bits > MOST_BITS:
        return f"{bits} of them have 2^{bits} values, and at most {MOST_BITS} are summed out; choose a smaller --latent"
    return ""
