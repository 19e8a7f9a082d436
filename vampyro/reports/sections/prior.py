"""The prior and the posteriors: the use of components, and the codes in the latent space."""

from typing import Any

import torch

from vampyro import plots
from vampyro.diagnostics import code_use, component_use
from vampyro.diagnostics.surgery import top_level
from vampyro.distributions import CodeDistribution, Mixture
from vampyro.metrics import knn_accuracy
from vampyro.programs.randomness import seeded
from vampyro.reports.subject import Measured, Subject

MAX_CODES = 2000


def measure(subject: Subject) -> Measured:
    few, seed = subject.few(MAX_CODES), subject.settings["seed"]
    x, labels = few.x, few.labels
    metrics, pictures, notes = {}, {}, []
    with seeded(seed, device=x.device):
        site, prior, posteriors = top_level(subject.model, subject.guide, x)
        z = torch.cat([q.sample() for q in posteriors])
    support: Any = prior.support
    if z.shape[-1] == 2 and not support.is_discrete:  # two bits have only four values
        pictures["plane"] = plots.latent_plane(z, labels, prior.log_prob, title=f"{site}: prior and codes")
    elif len(z) > 30:
        pictures["tsne"] = plots.tsne_map(z, labels, title=f"{site}: t-SNE of {len(z)} codes")
    if labels is not None and len(z) > 30:
        metrics["knn_accuracy"] = knn_accuracy(z, labels)
        notes.append(f"The label of a code is that of most of its 5 nearest codes for {metrics['knn_accuracy']:.1%}.")
    dead = "are dead: their use is less than a tenth of their share."
    if isinstance(prior, Mixture):
        use = component_use(subject.model, subject.guide, x, seed=seed)
        metrics |= {"components": len(use.use), "effective": use.effective, "dead": len(use.dead())}
        pictures["components"] = plots.component_bars(use.use)
        notes.append(
            f"Of {len(use.use)} components {use.effective:.1f} are effective (exp of the entropy of their use), and "
            f"{len(use.dead())} {dead}"
        )
    if isinstance(prior, CodeDistribution):
        use = code_use(subject.model, subject.guide, x, seed=seed)
        metrics |= {"codes": len(use.use), "perplexity": use.effective, "dead": len(use.dead())}
        pictures["codes"] = plots.component_bars(use.use, title="use of each code")
        notes.append(
            f"The perplexity of the codebook, exp of the entropy of its use, is {use.effective:.1f} of {len(use.use)}; "
            f"{len(use.dead())} codes {dead}"
        )
    return Measured(metrics, pictures, notes or ["The prior has no components or codes whose use could be counted."])
