"""The measures of a finished run: a row here, and a module of the same name with `measure(subject)`.

This module imports no torch, so that `run.py score --help` is instant.
"""

from operator import itemgetter

from vampyro.reports.section import Column, Section


def total(units: dict[str, int]) -> int | None:
    """Return the number of active units of all sites, None where they are not known."""
    return sum(units.values()) if units else None


SECTIONS = {
    "likelihood": Section(
        help="log p̂(x) by importance sampling, with its errors, k̂ and convergence",
        settings=("samples", "proposal"),
        distributed=True,
    ),
    "elbo": Section(
        help="the ELBO taken apart: KL of each latent, mutual information, active units",
        settings=("proposal",),
        columns=(
            Column("rate", "rate, nats", 2, itemgetter("rate")),
            Column("distortion", "distortion, nats", 2, itemgetter("distortion")),
            Column("active_units", "active units", 1, lambda metrics: total(metrics["active_units"])),
        ),
    ),
    "prior": Section(
        help="use of its components; prior and posteriors in the latent plane",
        columns=(Column("effective", "effective components", 1, itemgetter("effective")),),
        gradients=False,
    ),
    "samples": Section(
        help="classes and Fréchet distance of samples and reconstructions by a classifier; nearest training images",
        columns=(
            Column(
                "frechet", "Fréchet distance (classifier)", 2, itemgetter("classifier_frechet_distance"), drawn=True
            ),
            Column("total_variation", "classes' distance from uniform", 3, itemgetter("class_total_variation")),
            Column("entropy", "entropy of classes, nats", 3, itemgetter("class_entropy")),
            Column("reconstruction_accuracy", "accuracy on reconstructions", 3, itemgetter("reconstruction_accuracy")),
        ),
        gradients=False,
    ),
    "outliers": Section(
        help="log p̂(x) of noise and of another data set next to that of the test images",
        settings=("samples", "proposal", "other"),
        columns=(Column("auroc", "AUROC against noise", 3, lambda metrics: metrics["noise"]["auroc"]),),
    ),
    "ais": Section(
        help="log p̂(x) of a few images by annealed importance sampling, and bidirectional bounds",
        settings=("samples", "proposal", "temperatures"),
        columns=(Column("difference", "annealed less importance sampling, nats", 3, itemgetter("difference")),),
    ),
    "gaps": Section(help="amortisation and approximation gap of a few images", settings=("proposal",)),
}
