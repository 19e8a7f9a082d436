"""What inference loses: to the posterior's family, and to one network for all images."""

from vampyro.reports.section import Measured, Section, Subject

IMAGES = 20

SECTION = Section(
    position=7,
    help="amortisation and approximation gap of a few images",
    settings=("proposal",),
)


def measure(subject: Subject) -> Measured:
    from vampyro import plots
    from vampyro.diagnostics import gaps
    from vampyro.reports.sections.elbo import both

    found = gaps(subject.model, subject.scoring_guide, subject.few(IMAGES).x, seed=subject.settings["seed"])
    names = "log_likelihood", "optimised", "amortised", "approximation", "amortisation"
    metrics = {name: both(getattr(found, name)) for name in names} | {"images": len(found.ess)}
    note = (
        f"Of {found.approximation.mean + found.amortisation.mean:.2f} nats between log p̂(x) and the ELBO, "
        f"{found.approximation.mean:.2f} are the family's (q optimised for each image still lacks them) and "
        f"{found.amortisation.mean:.2f} the network's, which infers q for all images."
    )
    bars = {"this run": (found.approximation.mean, found.amortisation.mean)}
    return Measured(metrics, {"gaps": plots.gap_bars(bars)}, [note])
