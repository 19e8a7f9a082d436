"""Differences between runs scored on the same images, image by image."""

import json

import numpy

COMMON = ("dataset", "binarize", "likelihood", "sha256")  # what two runs' log-likelihoods have to share to be compared


def differences(cells, folders):
    """{cell's name: "+0.32 ± 0.05"}: mean log p̂ of a cell less that of the first, over images and seeds.

    Its error is over images; images that are hard for one model are hard for all, so it is much smaller than either
    row's. Empty where runs were scored on different images, or on log p(x) here and log p(x | y) there, or where only
    one cell is there.

    Args:
        cells: `Cell`s.
        folders: for each, the folders of its seeds.
    """
    found, common = {}, None
    for cell, places in zip(cells, folders, strict=True):
        scores = []
        for place in places:
            try:
                config = json.loads((place / "config.json").read_text(encoding="utf-8"))
                results = json.loads((place / "results.json").read_text(encoding="utf-8"))
                quantity = results["test"].get("quantity", "log p(x)")
                with numpy.load(place / "scores.npz") as file:
                    index, values = file["index"], file["log_likelihood"]
            except (OSError, ValueError, LookupError):
                continue
            own = [config.get(name) for name in COMMON], quantity, index.tolist()
            common = common or own
            if own != common:
                return {}
            scores.append(values)
        if scores:
            found[cell.label] = numpy.mean(scores, 0)
    if len(found) < 2:
        return {}
    first, *_ = found.values()
    return {name: against(scores - first) for name, scores in found.items()}


def against(apart):
    """
    >>> against(numpy.array([1.0, 2.0, 3.0])), against(numpy.zeros(3))
    ('+2.00 ± 0.58', '0')
    """
    if not apart.any():
        return "0"
    error = apart.std(ddof=1) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
    return f"{apart.mean():+.2f} ± {error:.2f}"
