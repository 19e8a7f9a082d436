"""The parts of the ELBO."""

from vampyro import plots
from vampyro.diagnostics import active_units, decompose, surgery
from vampyro.programs.estimate import Estimate
from vampyro.reports.subject import Measured, Subject

MAX_IMAGES = 2000  # the surgery compares each with all


def measure(subject: Subject) -> Measured:
    x, seed, guide = subject.few(MAX_IMAGES).x, subject.settings["seed"], subject.scoring_guide
    parts = decompose(subject.model, guide, x, samples=20, seed=seed)
    cut = surgery(subject.model, guide, x, seed=seed)
    units = active_units(subject.model, guide, x, seed=seed) if len(x) > 1 else {}  # a variance over images
    counts = [f"{level.count} of {level.active.numel()} of {name}" for name, level in units.items()]
    densities = {name: kl for name, kl in parts.kl_per_dimension.items() if kl is not None}
    metrics = {
        "elbo": both(parts.elbo),
        "reconstruction": both(parts.reconstruction),
        "kl": {name: both(kl) for name, kl in parts.kl.items()},
        "kl_per_dimension": {name: None for name in parts.kl_per_dimension}
        | {name: kl.mean.tolist() for name, kl in densities.items()},
        "rate": parts.rate,
        "distortion": parts.distortion,
        "mutual_information": both(cut.mutual_information),
        "marginal_kl": both(cut.marginal_kl),
        "log_images": cut.log_images,
        "active_units": {name: level.count for name, level in units.items()},
        "images": len(x),
    }
    pictures = {
        f"kl_{name}": plots.kl_bars(
            kl.mean, units[name].active if units else None, title=f"KL of each dimension of {name}"
        )
        for name, kl in densities.items()
    }
    notes = [
        f"ELBO {parts.elbo.mean:.2f} = reconstruction {parts.reconstruction.mean:.2f} - KL {parts.rate:.2f} nats.",
        f"The KL of {cut.site}, from other samples {cut.kl.mean:.2f} ± {cut.kl.error:.2f}, is the sum of "
        f"{cut.mutual_information.mean:.2f} of mutual information with x (at most log N = {cut.log_images:.2f}) and "
        f"{cut.marginal_kl.mean:.2f} of KL between the aggregated posterior and the prior.",
        f"Active units: {', '.join(counts)}." if counts else "Active units are not known of a single image.",
    ]
    return Measured(metrics, pictures, notes)


def both(estimate: Estimate) -> dict[str, float]:
    """Return the mean and the error of an estimate as JSON."""
    return {"mean": estimate.mean.item(), "error": estimate.error.item()}
