"""Differences between runs scored on the same images, image by image."""

import json

import numpy

COMMON = ("dataset", "binarize", "likelihood", "sha256")  # what two runs' log-likelihoods have to share to be compared


def differences(cells, folders):
    """{cell's name: "+0.32 ± 0.05"}: mean log p̂ of a cell less that of the first, over images and seeds.

    Its error is over images, which are hard for one model where they are hard for all, so that of one seed it is much
    smaller than either row's; and over seeds, where there are several.

    Args:
        cells: `Cell`s.
        folders: for each, the folders of its seeds.

    Returns:
        such a dict for each set of images (and for log p(x) and log p(x | y) of the same) that two cells or more were
        scored on; a cell whose seeds were not all scored on the same is in none.
    """
    found = {}
    for cell, places in zip(cells, folders, strict=True):
        scores = {}
        for place in places:
            try:
                config = json.loads((place / "config.json").read_text(encoding="utf-8"))
                results = json.loads((place / "results.json").read_text(encoding="utf-8"))
                quantity = results["test"].get("quantity", "log p(x)")
                with numpy.load(place / "scores.npz") as file:
                    index, values = file["index"], file["log_likelihood"]
                common = json.dumps([[config.get(name) for name in COMMON], quantity, index.tolist()])
            except Exception:  # as `table.figures_of`
                continue
            scores.setdefault(common, []).append(values)
        if len(scores) == 1:
            ((common, values),) = scores.items()
            found.setdefault(common, {})[cell.label] = numpy.stack(values)
    groups = [group for group in found.values() if len(group) > 1]
    return [{name: against(scores, next(iter(group.values()))) for name, scores in group.items()} for group in groups]


def against(scores, first):
    """Both (seeds, images).

    >>> one = numpy.array([[1.0, 2.0, 3.0]])
    >>> against(one, 0 * one), against(one, one), against(numpy.array([[1.0, 2], [3, 4]]), numpy.zeros((2, 2)))
    ('+2.00 ± 0.58', '0', '+2.50 ± 1.12')
    """
    apart = scores.mean(0) - first.mean(0)
    if not apart.any():
        return "0"
    variance = apart.var(ddof=1) / len(apart) if len(apart) > 1 else float("nan")
    for seeds in (scores.mean(1), first.mean(1)):
        variance += seeds.var(ddof=1) / len(seeds) if len(seeds) > 1 else 0.0
    return f"{apart.mean():+.2f} ± {variance**0.5:.2f}"
