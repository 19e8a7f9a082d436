"""Detection of noise and of another data set by log p̂(x), and the reconstructions of their images."""

import torch

from vampyro import plots
from vampyro.likelihood import score
from vampyro.metrics import auroc, noise_images
from vampyro.programs.randomness import seeded
from vampyro.reports.subject import Measured, Subject
from vampyro.runs.run_plots import reconstruction
from vampyro.runs.scoring import drawn

MAX_IMAGES = 500  # of each kind


def measure(subject: Subject) -> Measured:
    few, settings = subject.few(MAX_IMAGES), subject.settings
    x = few.x
    shape, ours = subject.images.image_shape, subject.images
    others = {"noise": noise_images(shape, len(x), seed=settings["seed"], values=ours.values)}
    if subject.other is not None:
        images = subject.other.images("test")
        others[settings["other"]] = images[drawn(len(images), len(x), settings["draw_seed"])]
    samples = min(settings["samples"], 200)
    own = score(subject.model, subject.scoring_guide, x, samples, seed=settings["seed"]).log_likelihood
    metrics, pictures, notes = {"samples": samples, "images": len(x), "log_likelihood": own.mean().item()}, {}, []
    for name, images in others.items():
        images = images.to(x.device)
        if ours.classes is not None and few.labels is not None:  # those of the data's images, in order
            images = ours.inputs(images, few.labels[: len(images)])
        theirs = score(subject.model, subject.scoring_guide, images, samples, seed=settings["seed"]).log_likelihood
        area = auroc(own, theirs)
        metrics[name] = {"log_likelihood": theirs.mean().item(), "auroc": area}
        pictures[name] = plots.score_histograms(own, theirs, area, ("data", name))
        with torch.no_grad(), seeded(settings["seed"], device=x.device):
            rebuilt = reconstruction(subject.model, subject.guide, images[:20]).mean
        pictures[f"{name}_rebuilt"] = plots.reconstructions(ours.pictures(images[:20]), rebuilt)
        likelier = ("" if abs(area - 0.5) > 0.4 else "slightly ") + ("less" if area >= 0.5 else "more")
        notes.append(
            f"{name}: log p̂(x) {theirs.mean():.1f} nats, and {own.mean():.1f} of the data; AUROC {area:.3f}: "
            f"the model finds {name} {likelier} likely than the data."
        )
    if ours.classes is not None:
        notes.append("Each of these images was given the label of an image of the data, as log p(x | y) needs one.")
    return Measured(metrics, pictures, notes)
