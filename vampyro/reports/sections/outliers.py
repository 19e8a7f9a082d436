"""Whether log p̂(x) tells images of the data from others, and what becomes of noisy ones."""

from vampyro.reports.section import Column, Measured, Section, Subject

MOST = 500  # images of each kind

SECTION = Section(
    position=5,
    help="log p̂(x) of noise and of another data set beside the test images'",
    settings=("samples", "proposal", "other"),
    columns=(Column("auroc", "AUROC against noise", 3, lambda metrics: metrics["noise"]["auroc"]),),
)


def measure(subject: Subject) -> Measured:
    import torch

    from vampyro import plots
    from vampyro.likelihood import score
    from vampyro.metrics import auroc, noise_images
    from vampyro.programs.randomness import seeded
    from vampyro.runs.run_plots import reconstruction
    from vampyro.runs.scoring import drawn

    few, settings = subject.few(MOST), subject.settings
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
        likelier = ("" if abs(area - 0.5) > 0.4 else "hardly ") + ("rarer" if area >= 0.5 else "likelier")
        notes.append(
            f"{name}: log p̂(x) {theirs.mean():.1f} beside {own.mean():.1f} nats of the data; AUROC {area:.3f}: "
            f"the model finds it {likelier} than what it was trained for."
        )
    if ours.classes is not None:
        notes.append("Each of them was given the label of an image of the data, since log p(x | y) needs one.")
    return Measured(metrics, pictures, notes)
