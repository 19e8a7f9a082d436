"""What a classifier says of samples and reconstructions, and whether samples are copies."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from vampyro.reports.section import Column, Measured, Section, Subject

if TYPE_CHECKING:
    from vampyro.data import ImageSet

SAMPLES = 5000

SHOWN = 18


SECTION = Section(
    position=4,
    gradients=False,
    help="what a classifier and a Fréchet distance say of samples and reconstructions; nearest training images",
    columns=(
        Column("frechet", "Fréchet distance (classifier)", 2, itemgetter("classifier_frechet_distance"), drawn=True),
        Column("total_variation", "classes' distance from uniform", 3, itemgetter("class_total_variation")),
        Column("entropy", "entropy of classes, nats", 3, itemgetter("class_entropy")),
        Column("reconstruction_accuracy", "accuracy on reconstructions", 3, itemgetter("reconstruction_accuracy")),
    ),
)


def measure(subject: Subject) -> Measured:
    import torch

    from vampyro import plots
    from vampyro.metrics import (
        accuracy,
        cached_classifier,
        class_distribution,
        classifier_frechet_distance,
        entropy,
        nearest,
        total_variation,
    )
    from vampyro.programs.randomness import seeded
    from vampyro.runs.run_plots import generated, reconstruction

    with seeded(subject.settings["seed"], device=subject.x.device):
        seen = (lambda fn: fn.sample()) if subject.images.binary else (lambda fn: fn.mean)  # grey noise is no grey
        asked: Sequence[Any] = [None] * (SAMPLES // 500)
        classes = subject.images.classes
        if classes is not None:  # each as often as any other
            asked = (torch.arange(500 * len(asked), device=subject.x.device) % classes).split(500)
        samples = torch.cat([seen(generated(subject.model, 500, y)) for y in asked])
        rebuilt = torch.cat([seen(reconstruction(subject.model, subject.guide, x)) for x in subject.x.split(500)])
    training = subject.images.unlabelled().images("train")
    found = nearest(samples[:SHOWN], training, k=2)
    metrics: dict[str, Any] = {"nearest_distance": found.distances[:, 0].mean().item()}
    notes = []
    pictures = {"nearest": plots.beside_nearest(samples[:SHOWN], training[found.indices])}
    own = nearest(subject.images.pictures(subject.few(SHOWN).x), training, k=1).distances[:, 0].mean().item()
    metrics["nearest_distance_of_data"] = own
    notes.append(
        f"The nearest training image lies {metrics['nearest_distance']:.2f} from a sample and {own:.2f} from an image "
        "that was not trained on: samples much nearer than that would be copies."
    )
    images = labelled(subject)
    if images is None:
        notes.append(
            f"{subject.images.name} lacks labels for training or testing, so there is no classifier of its classes."
        )
        return Measured(metrics, pictures, notes)
    classifier = cached_classifier(images).to(samples.device)
    shares = class_distribution(classifier, samples)
    held = accuracy(classifier, images.images("test").to(samples.device), images.labels_of("test").to(samples.device))
    metrics |= {
        "classifier": {"trained_on": images.name, "accuracy": held},
        "class_shares": shares.tolist(),
        "class_total_variation": total_variation(shares),
        "class_entropy": entropy(shares),
    }
    pictures["classes"] = plots.class_bars(shares)
    notes.append(
        f"A classifier with {held:.1%} on test images sees the classes of samples {total_variation(shares):.3f} from "
        f"uniform (total variation), with an entropy of {entropy(shares):.3f} nats."
    )
    if classes is not None:
        metrics["label_accuracy"] = accuracy(classifier, samples, torch.cat(list(asked)))
        notes.append(f"It reads the class that was asked for in {metrics['label_accuracy']:.1%} of samples.")
    if subject.labels is not None:
        metrics["reconstruction_accuracy"] = accuracy(classifier, rebuilt, subject.labels)
        notes.append(f"It reads the right class in {metrics['reconstruction_accuracy']:.1%} of reconstructions.")
    halves = training[torch.randperm(len(training), generator=torch.Generator().manual_seed(0)).to(training.device)]
    count = min(len(samples), len(halves) // 2)
    try:
        metrics["classifier_frechet_distance"] = classifier_frechet_distance(
            classifier, halves[:count], samples[:count]
        )
        metrics["classifier_frechet_distance_of_data"] = classifier_frechet_distance(
            classifier, halves[:count], halves[count : 2 * count]
        )
        notes.append(
            f"Fréchet distance on that classifier's features (not the Inception FID) of {count} samples to as many "
            f"training images: {metrics['classifier_frechet_distance']:.2f}; between halves of the training images "
            f"{metrics['classifier_frechet_distance_of_data']:.2f}."
        )
    except ValueError as error:
        notes.append(f"No Fréchet distance: {error}.")
    return Measured(metrics, pictures, notes)


def labelled(subject: Subject) -> ImageSet | None:
    """Return the images with their labels, or others of the same kind that have some, or None."""
    from vampyro import data

    if {"train", "test"} <= set(subject.images.labels):
        return subject.images.unlabelled()
    row = data.DATA_SETS.get(subject.images.name)
    for name in row.labelled_as if row else ():
        try:
            return data.load(name, subject.config["data_dir"], "dynamic").to(subject.x.device)
        except data.DataError:  # neither there nor to be had
            continue
    return None
