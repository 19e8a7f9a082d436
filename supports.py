"""Which parts fit which: a pair is refused where its supports differ, and nowhere else. Pure Python."""

from specs import SpecError, parse

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
