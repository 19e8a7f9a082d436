"""The prior beside the posteriors: which components are used, and where the codes lie."""

import torch

from vampyro import plots
from vampyro.diagnostics import code_use, component_use
from vampyro.diagnostics.surgery import top_level
from vampyro.metrics import knn_accuracy
from vampyro.programs.randomness import seeded
from vampyro.reports.sections.subject import Measured

MOST = 2000  # codes drawn


SETTINGS = ()  # beside those of every measure


@torch.no_grad()
def measure(subject):
    few = subject.few(MOST)
    x, labels = few.x, few.labels
    figures, pictures, notes = {}, {}, []
    with seeded(subject.settings["seed"], device=x.device):
        site, prior, posteriors = top_level(subject.model, subject.guide, x)
        z = torch.cat([q.sample() for q in posteriors])
    if z.shape[-1] == 2 and not prior.support.is_discrete:  # bits have four corners and no plane
        pictures["plane"] = plots.latent_plane(z, labels, prior.log_prob, title=f"{site}: prior and codes")
    elif len(z) > 30:
        pictures["tsne"] = plots.tsne_map(z, labels, title=f"{site}: t-SNE of {len(z)} codes")
    if labels is not None and len(z) > 30:
        figures["knn_accuracy"] = knn_accuracy(z, labels)
        notes.append(f"The label of a code is that of most of its 5 nearest codes for {figures['knn_accuracy']:.1%}.")
    if hasattr(prior, "component_log_prob"):
        use = component_use(subject.model, subject.guide, x, seed=subject.settings["seed"])
        figures |= {"components": len(use.use), "effective": use.effective, "dead": len(use.dead())}
        pictures["components"] = plots.component_bars(use.use)
        notes.append(
            f"Of {len(use.use)} components {use.effective:.1f} are effective, exp of the entropy of their use, and "
            f"{len(use.dead())} are dead: they get less than a tenth of their share."
        )
    if hasattr(prior, "one_hot"):
        use = code_use(subject.model, subject.guide, x, seed=subject.settings["seed"])
        figures |= {"codes": len(use.use), "perplexity": use.effective, "dead": len(use.dead())}
        pictures["codes"] = plots.component_bars(use.use, title="use of each code")
        notes.append(
            f"The codebook's perplexity, exp of the entropy of its use, is {use.effective:.1f} of {len(use.use)}; "
            f"{len(use.dead())} codes are dead: they get less than a tenth of their share."
        )
    return Measured(figures, pictures, notes or ["The prior has no components or codes whose use could be counted."])
