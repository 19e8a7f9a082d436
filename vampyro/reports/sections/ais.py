"""An estimate of log p(x) that does not use the guide."""

import math

from tqdm import tqdm

from vampyro.likelihood import ais, bdmc, score
from vampyro.programs.estimate import Estimate, or_none, standard_error, with_noun
from vampyro.reports.subject import Measured, Subject

IMAGES, CHAINS = 10, 8


def measure(subject: Subject) -> Measured:
    few, settings = subject.few(IMAGES), subject.settings
    x = few.x
    how = {"chains": CHAINS, "temperatures": settings["temperatures"], "seed": settings["seed"]}
    annealed = ais(subject.model, x, **how, progress=lambda steps: tqdm(steps, desc="annealing", disable=None))
    weighed = score(subject.model, subject.scoring_guide, x, max(settings["samples"], 1000), seed=settings["seed"])
    bounds = bdmc(subject.model, images=IMAGES, **how, progress=lambda steps: tqdm(steps, desc="bounds", disable=None))
    apart = annealed.log_likelihood - weighed.log_likelihood
    noise = math.hypot(annealed.monte_carlo_error, Estimate(apart, weighed.monte_carlo_error).error.item())
    metrics = {
        "annealed": annealed.summary(),
        "importance": weighed.summary(),
        "difference": apart.mean().item(),
        "difference_error": or_none(noise),
        "difference_standard_error": or_none(standard_error(apart)),
        "bounds": bounds.summary(),
    }
    if weighed.exact:
        method, verdict = f"by a sum over all {weighed.samples} codes", "the sum is exact."
    else:
        method = f"by importance sampling from the guide ({weighed.samples} samples)"
        higher = "annealed" if apart.mean() > 0 else "importance-sampling"
        verdict = f"both are lower bounds in expectation, so the {higher} estimate is the better one."
    images = with_noun(len(x), "image")
    error = " (the error of importance sampling is unknown)" if math.isnan(noise) else f" ± {noise:.3f}"
    notes = [
        f"log p̂(x) of {images}: {annealed.log_likelihood.mean():.2f} by annealed importance sampling "
        f"({CHAINS} chains, {annealed.temperatures} temperatures), {weighed.log_likelihood.mean():.2f} {method}. "
        f"Difference {apart.mean():+.3f} nats{error}; {verdict}",
        f"On images sampled from the model, the annealed estimate lies between bounds {bounds.gap.mean():.3f} ± "
        f"{bounds.standard_error:.3f} nats apart.",
    ]
    rows = [
        (int(i), f"{a:.2f}", f"{w:.2f}", f"{a - w:+.2f}", f"{k:.2f}")
        for i, a, w, k in zip(few.index, annealed.log_likelihood, weighed.log_likelihood, weighed.pareto_k)
    ]
    header = ("image", "annealed", "importance", "difference", "k̂")
    return Measured(metrics, notes=notes, tables=[("image by image", header, rows)])
