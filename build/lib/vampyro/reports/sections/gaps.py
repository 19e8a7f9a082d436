"""What inference loses: to the posterior's family, and to one network for all images."""

from vampyro import plots
from vampyro.diagnostics import gaps
from vampyro.reports.sections.elbo import both
from vampyro.reports.sections.subject import Measured

IMAGES = 20


SETTINGS = ("proposal",)  # beside those of every measure


def measure(subject):
    found = gaps(subject.model, subject.scoring_guide, subject.few(IMAGES).x, seed=subject.settings["seed"])
    names = "log_likelihood", "optimised", "amortised", "approximation", "amortisation"
    figures = {name: both(getattr(found, name)) for name in names} | {"images": len(found.ess)}
    note = (
        f"Of {found.approximation.mean + found.amortisation.mean:.2f} nats between log p̂(x) and the ELBO, "
        f"{found.approximation.mean:.2f} are the family's (q optimised for each image still lacks them) and "
        f"{found.amortisation.mean:.2f} the network's, which infers q for all images."
    )
    bars = {"this run": (found.approximation.mean, found.amortisation.mean)}
    return Measured(figures, {"gaps": plots.gap_bars(bars)}, [note])
