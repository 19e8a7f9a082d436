"""log p̂(x) by importance sampling, as the main job reports it, of any split with any number of samples."""

from vampyro import plots
from vampyro.likelihood.scores import sizes
from vampyro.reports.sections.subject import Measured
from vampyro.runs.partial_scores import Partial
from vampyro.runs.scoring import scored, sentence, summary

SETTINGS = ("samples", "proposal")  # beside those of every measure


def measure(subject):
    settings, processes, guide = subject.settings, subject.processes, subject.scoring_guide
    partial = Partial(
        subject.folder.path / f"likelihood.partial-{processes.rank}.npz",
        settings | {"device": subject.x.device.type, "processes": processes.size},
    )
    result = scored(subject.model, guide, subject.x, settings["samples"], settings["seed"], processes, partial)
    figures = summary(result, subject.config, guide)
    subject.folder.write_arrays(
        "likelihood.npz", **{name: getattr(result, name).numpy() for name in ARRAYS}, index=subject.index
    )
    partial.remove()
    note = sentence(figures, result, subject.folder.path.parent, settings["split"], subject.prior)
    if result.exact:
        return Measured(figures, notes=[note])
    steps = list(zip(sizes(settings["samples"]), result.curve.mean(-1).tolist()))
    return Measured(
        figures,
        pictures={
            "convergence": plots.convergence(steps),
            "pareto_k": plots.pareto_k(result.pareto_k, result.pareto_limit),
        },
        notes=[note],
        tables=[("the mean from fewer of the same weights", ("samples", "nats"), [(n, f"{v:.3f}") for n, v in steps])],
    )


ARRAYS = ("log_likelihood", "elbo", "ess", "pareto_k", "monte_carlo_error")
