"""The prior beside the posteriors: which components are used, and where the codes lie."""

from operator import itemgetter
from typing import Any

from vampyro.reports.section import Column, Measured, Section, Subject

MOST = 2000  # codes drawn

SECTION = Section(
    position=3,
    gradients=False,
    help="use of its components; prior and posteriors in the latent plane",
    columns=(Column("effective", "effective components", 1, itemgetter("effective")),),
)


def measure(subject: Subject) -> Measured:
    import torch

    from vampyro import plots
    from vampyro.diagnostics import code_use, component_use
    from vampyro.diagnostics.surgery import top_level
    from vampyro.distributions import CodeDistribution, Mixture
    from vampyro.metrics import knn_accuracy
    from vampyro.programs.randomness import seeded

    few = subject.few(MOST)
    x, labels = few.x, few.labels
    metrics, pictures, notes = {}, {}, []
    with seeded(subject.settings["seed"], device=x.device):
        site, prior, posteriors = top_level(subject.model, subject.guide, x)
        z = torch.cat([q.sample() for q in posteriors])
    support: Any = prior.support
    if z.shape[-1] == 2 and not support.is_discrete:  # bits have four corners and no plane
        pictures["plane"] = plots.latent_plane(z, labels, prior.log_prob, title=f"{site}: prior and codes")
    elif len(z) > 30:
        pictures["tsne"] = plots.tsne_map(z, labels, title=f"{site}: t-SNE of {len(z)} codes")
    if labels is not None and len(z) > 30:
        metrics["knn_accuracy"] = knn_accuracy(z, labels)
        notes.append(f"The label of a code is that of most of its 5 nearest codes for {metrics['knn_accuracy']:.1%}.")
    if isinstance(prior, Mixture):
        use = component_use(subject.model, subject.guide, x, seed=subject.settings["seed"])
        metrics |= {"components": len(use.use), "effective": use.effective, "dead": len(use.dead())}
        pictures["components"] = plots.component_bars(use.use)
        notes.append(
            f"Of {len(use.use)} components {use.effective:.1f} are effective, exp of the entropy of their use, and "
            f"{len(use.dead())} are dead: they get less than a tenth of their share."
        )
    if isinstance(prior, CodeDistribution):
        use = code_use(subject.model, subject.guide, x, seed=subject.settings["seed"])
        metrics |= {"codes": len(use.use), "perplexity": use.effective, "dead": len(use.dead())}
        pictures["codes"] = plots.component_bars(use.use, title="use of each code")
        notes.append(
            f"The codebook's perplexity, exp of the entropy of its use, is {use.effective:.1f} of {len(use.use)}; "
            f"{len(use.dead())} codes are dead: they get less than a tenth of their share."
        )
    return Measured(metrics, pictures, notes or ["The prior has no components or codes whose use could be counted."])
