"""log p̂(x) by importance sampling, as training reports it, for any split and any number of samples."""

from vampyro import plots
from vampyro.likelihood.scores import sizes
from vampyro.reports.subject import Measured, Subject
from vampyro.runs.scoring import Partial, score_images, sentence, summary

ARRAYS = ("log_likelihood", "elbo", "ess", "pareto_k", "monte_carlo_error")


def measure(subject: Subject) -> Measured:
    settings, processes, guide = subject.settings, subject.processes, subject.scoring_guide
    partial = Partial(
        subject.folder.path / f"likelihood.partial-{processes.rank}.npz",
        settings | {"device": subject.x.device.type, "processes": processes.size},
    )
    result = score_images(subject.model, guide, subject.x, settings["samples"], settings["seed"], processes, partial)
    metrics = summary(result, subject.config, guide)
    subject.folder.write_arrays(
        "likelihood.npz", **{name: getattr(result, name).numpy() for name in ARRAYS}, index=subject.index
    )
    partial.remove()
    note = sentence(metrics, result, subject.folder.path.parent, settings["split"], subject.prior)
    if result.exact:
        return Measured(metrics, notes=[note])
    steps = list(zip(sizes(settings["samples"]), result.curve.mean(-1).tolist()))
    pictures = {
        "convergence": plots.convergence(steps),
        "pareto_k": plots.pareto_k(result.pareto_k, result.pareto_limit),
    }
    rows = [(n, f"{v:.3f}") for n, v in steps]
    return Measured(metrics, pictures, [note], [("the mean from fewer of the same weights", ("samples", "nats"), rows)])
