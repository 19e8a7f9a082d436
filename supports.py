"""Which parts fit which: a pair is refused where its supports differ, and nowhere else. Pure Python."""

from specs import ESTIMATORS, SpecError, parse

# What images hold, each kind a subset of the next, and what a likelihood has mass or density on.
VALUES = {
    "binary": "black and white, 0 and 1",
    "levels": "the 256 grey levels k/255",
    "unit": "grey, anywhere in [0, 1]",
    "real": "any real number",
}
LIKELIHOODS = {"bernoulli": "binary", "logistic": "levels", "continuous-bernoulli": "unit", "normal": "real"}


def check_likelihood(likelihood, values, name):
    """Refuses a likelihood without mass where the images are.

    Args:
        likelihood: a spec.
        values: a key of VALUES, as `ImageSet.values`.
        name: of the images.

    >>> check_likelihood("normal", "binary", "static-mnist")
    >>> check_likelihood("bernoulli", "levels", "mnist")    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    specs.SpecError: likelihood 'bernoulli' is for images that are black and white, 0 and 1, but mnist is the 256 ...
    """
    likelihood = parse("likelihood", likelihood)
    order = list(VALUES)
    support = LIKELIHOODS[likelihood.name]
    if order.index(values) > order.index(support):
        fitting = [other for other, kind in LIKELIHOODS.items() if order.index(values) <= order.index(kind)]
        raise SpecError(
            f"likelihood '{likelihood}' is for images that are {VALUES[support]}, but {name} is {VALUES[values]}: "
            f"choose --likelihood {' or '.join(fitting)}"
            + (", or --binarize dynamic or threshold" if support == "binary" else "")
        )


BINARY = {"bernoulli"}  # posteriors whose latents are bits
PRIORS_OF_BITS = ("standard", "vamp", "vamp-base", "aggregate")
MOST_BITS = 12  # that are summed out: 4096 terms an image


def resolve_objective(objective, posterior):
    """The objective in full: of binary latents an ELBO's gradient is relaxed where no other estimator is named.

    >>> resolve_objective("elbo:analytic", "normal"), resolve_objective("elbo:analytic", "bernoulli")
    ('elbo:analytic', 'elbo:analytic:relaxed')
    """
    objective = parse("objective", objective)
    named = objective.name != "elbo" or objective.options & set(ESTIMATORS)
    if named or parse("posterior", posterior).name not in BINARY:
        return str(objective)
    return str(parse("objective", f"{objective}:relaxed"))


def check_posterior(posterior, *, prior="standard", flow="none", objective="elbo", bits=0):
    """Refuses what cannot go with a posterior, as its latents are binary, or as they are not.

    Args:
        posterior, prior, objective: specs.
        flow: a spec, or two with a comma between.
        bits: how many latents there are in all, for an objective that sums them out.

    >>> check_posterior("bernoulli", prior="vamp:50", objective="elbo:score")
    >>> check_posterior("bernoulli", flow="planar:5")    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    specs.SpecError: flow 'planar:5' does not go with posterior 'bernoulli': it bends a density over ...
    """
    posterior, prior, objective = (
        parse(family, text) for family, text in (("posterior", posterior), ("prior", prior), ("objective", objective))
    )
    flows = [parse("flow", part) for part in (flow.split(",") if isinstance(flow, str) else [flow])]
    estimator = objective.options & set(ESTIMATORS)
    if posterior.name not in BINARY:
        if estimator:
            why = "it is for latents that are discrete, and these are real numbers: choose --objective elbo"
            raise _clash("objective", objective, posterior, why)
        return
    if prior.name not in PRIORS_OF_BITS:
        why = "it is a density over real numbers, and the latents are bits: choose --prior standard, vamp or vamp-base"
        raise _clash("prior", prior, posterior, why)
    for flow in flows:
        if flow.name != "none":
            why = "it bends a density over real numbers, and the latents are bits: choose --flow none"
            raise _clash("flow", flow, posterior, why)
    if objective.name != "elbo":
        why = "its gradient goes through samples, and bits have none: choose --objective elbo:relaxed or elbo:score"
        raise _clash("objective", objective, posterior, why)
    if "enumerate" in estimator and bits > MOST_BITS:
        why = f"{bits} bits have 2^{bits} values, at most {MOST_BITS} bits are summed out: choose a smaller --latent"
        raise _clash("objective", objective, posterior, why)


def _clash(family, spec, posterior, why):
    return SpecError(f"{family} '{spec}' does not go with posterior '{posterior}': {why}")
