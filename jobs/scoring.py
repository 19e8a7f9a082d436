"""What training and scoring share: which images, how they are scored, and what is said of it."""

import math

import numpy
import torch
from tqdm import tqdm

import data
from inference import Score, score
from jobs.machine import ALONE
from supports import check_likelihood


def load_images(config):
    """The run's images; grey ones stay grey where the likelihood is made for them."""
    how = config["binarize"] or (None if config["likelihood"] == "bernoulli" else "none")
    images = data.load(config["dataset"], config["data_dir"], how)
    check_likelihood(config["likelihood"], images.values, images.name)
    return images


def test_images(images, count=None):
    """(test images, their indices): all, or `count` of them, the same for every run.

    Drawn, never a slice: some public test files are sorted by class.
    """
    test = images.images("test")
    index = numpy.arange(len(test))
    if count is not None:
        index = numpy.random.default_rng(0).permutation(len(test))[:count]
        test = test[torch.from_numpy(index).to(test.device)]
    return test, index


def scored(model, guide, test, samples, seed, processes=ALONE):
    """A `Score`, with a progress bar on a terminal; of several processes each scores a part of the images."""
    if len(test) < processes.size:  # each would score less than an image
        processes = ALONE
    part = slice(processes.rank, None, processes.size)
    score_of_part = score(
        model,
        guide,
        test[part],
        samples,
        seed=seed + processes.rank,
        progress=lambda blocks: tqdm(blocks, desc="scoring", unit="block", disable=None if processes.leads else True),
    )
    if processes.size == 1:
        return score_of_part
    whole = [torch.empty(len(test), dtype=torch.float64) for _ in range(3)]
    for rank, result in enumerate(processes.gathered(score_of_part)):
        for values, own in zip(whole, (result.log_likelihood, result.elbo, result.ess)):
            values[rank :: processes.size] = own
    return Score(*whole, samples)


def summary(result, config):
    """The figures that results.json keeps; for a likelihood of grey levels also in bits per dimension."""
    figures = result.summary()
    if config["likelihood"] == "logistic":
        pixels = numpy.prod(config["shape"])
        figures["bits_per_dimension"] = -figures["log_likelihood"] / (pixels * numpy.log(2)).item()
    return figures


def sentence(figures):
    """Two lines for a person."""
    error = figures["standard_error"]
    bits = f"\nbits per dimension  {figures['bits_per_dimension']:.3f}" if "bits_per_dimension" in figures else ""
    return (
        f"test log-likelihood {figures['log_likelihood']:.2f} ± {math.nan if error is None else error:.2f} "
        f"nats per image ({figures['samples']} importance samples, {figures['images']} images, "
        f"median ESS {figures['ess_median']:.1f}){bits}\n"
        f"test ELBO           {figures['elbo']:.2f}"
    )
