"""The gap between log p̂(x) and the ELBO: of the posterior's family, and of one network for all images."""

from vampyro import plots
from vampyro.diagnostics import gaps
from vampyro.reports.sections.elbo import both
from vampyro.reports.subject import Measured, Subject

IMAGES = 20


def measure(subject: Subject) -> Measured:
    found = gaps(subject.model, subject.scoring_guide, subject.few(IMAGES).x, seed=subject.settings["seed"])
    names = "log_likelihood", "optimised", "amortised", "approximation", "amortisation"
    metrics = {name: both(getattr(found, name)) for name in names} | {"images": len(found.ess)}
    note = (
        f"The gap between log p̂(x) and the ELBO is {found.approximation.mean + found.amortisation.mean:.2f} nats: an "
        f"approximation gap of {found.approximation.mean:.2f}, which remains when q is optimised for each image, and "
        f"an amortisation gap of {found.amortisation.mean:.2f}, as one network infers q for all images."
    )
    bars = {"this run": (found.approximation.mean, found.amortisation.mean)}
    return Measured(metrics, {"gaps": plots.gap_bars(bars)}, [note])
