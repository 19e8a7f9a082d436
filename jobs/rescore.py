"""A finished run, scored again."""

import time

from assemble import aggregate, load
from data import DataError
from jobs.folder import Folder
from jobs.machine import find_device
from jobs.scoring import load_images, scored, sentence, summary, test_images


def rescore(run, prior="own", device="auto", **given):
    """Prints the figures and writes them to score-PRIOR.json in the run's folder.

    Args:
        run: the folder.
        prior: `own` or `aggregate`.
        given: samples, test_images, data_dir, seed, in place of the run's.

    Raises:
        one of `jobs.training.INPUT_ERRORS`.
    """
    folder, config = Folder.open(run, settings=["dataset", "likelihood", "shape", "sha256"])
    device = find_device(device)
    images = load_images(config | given)
    if images.sha256 != config["sha256"]:
        raise DataError(f"{images.name} has changed since {run} was trained on it")
    model, guide = load(run)
    if prior == "aggregate":
        model.prior = aggregate(guide, images.images("train"))
    model, guide, images = model.to(device), guide.to(device), images.to(device)
    settings = {name: (config | given)[name] for name in ("samples", "test_images", "seed")}
    print(f"{images}\n{model.prior} · flow {config['flow']} · {device}")
    test, _ = test_images(images, settings["test_images"])
    began = time.perf_counter()
    figures = summary(scored(model, guide, test, settings["samples"], settings["seed"]), config)
    folder.write(
        f"score-{prior}.json", {"test": figures | {"seconds": time.perf_counter() - began}, "settings": settings}
    )
    print(sentence(figures))
