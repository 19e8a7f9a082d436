"""A second opinion on log p(x), in which the guide has no part."""

import math

from tqdm import tqdm

from inference import ais, bdmc, score
from inference.estimate import or_none, standard_error
from jobs.sections.subject import Measured

IMAGES, CHAINS = 10, 8
SETTINGS = ("samples", "proposal", "temperatures")  # beside those of every measure


def measure(subject):
    few, settings = subject.few(IMAGES), subject.settings
    x = few.x
    how = {"chains": CHAINS, "temperatures": settings["temperatures"], "seed": settings["seed"]}
    annealed = ais(subject.model, x, **how, progress=lambda steps: tqdm(steps, desc="annealing", disable=None))
    weighed = score(subject.model, subject.scoring_guide, x, max(settings["samples"], 1000), seed=settings["seed"])
    bounds = bdmc(subject.model, images=IMAGES, **how, progress=lambda steps: tqdm(steps, desc="bounds", disable=None))
    apart = annealed.log_likelihood - weighed.log_likelihood
    noise = math.hypot(annealed.monte_carlo_error, weighed.summary()["monte_carlo_error"])
    figures = {
        "annealed": annealed.summary(),
        "importance": weighed.summary(),
        "difference": apart.mean().item(),
        "difference_error": noise,
        "difference_standard_error": or_none(standard_error(apart)),
        "bounds": bounds.summary(),
    }
    higher = "annealed" if apart.mean() > 0 else "importance"
    notes = [
        f"log p̂(x) of {len(x)} images: {annealed.log_likelihood.mean():.2f} by annealed importance sampling "
        f"({CHAINS} chains, {annealed.temperatures} temperatures), {weighed.log_likelihood.mean():.2f} by importance "
        f"sampling from the guide ({weighed.samples} samples). Difference {apart.mean():+.3f} ± {noise:.3f} nats; both "
        f"are lower bounds in expectation, so the {higher} one is the better.",
        f"On images that the model drew, the annealed estimate lies between bounds {bounds.gap.mean():.3f} ± "
        f"{bounds.standard_error:.3f} nats apart.",
    ]
    rows = [
        (int(i), f"{a:.2f}", f"{w:.2f}", f"{a - w:+.2f}", f"{k:.2f}")
        for i, a, w, k in zip(few.index, annealed.log_likelihood, weighed.log_likelihood, weighed.pareto_k)
    ]
    return Measured(
        figures, {}, notes, [("image by image", ("image", "annealed", "importance", "difference", "k̂"), rows)]
    )
