"""Classes of samples and reconstructions by a classifier, and the training images nearest to samples."""

from collections.abc import Sequence
from typing import Any

import torch

from vampyro import data, plots
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
from vampyro.reports.subject import Measured, Subject
from vampyro.runs.run_plots import generate, reconstruction

SAMPLES = 5000
BATCH = 500  # images at a time
SHOWN = 18


def measure(subject: Subject) -> Measured:
    classes, device = subject.images.classes, subject.x.device
    with seeded(subject.settings["seed"], device=device):
        seen = (lambda fn: fn.sample()) if subject.images.binary else (lambda fn: fn.mean)  # grey noise is no grey
        asked: Sequence[Any] = [None] * (SAMPLES // BATCH)
        if classes is not None:  # each as often as any other
            asked = (torch.arange(BATCH * len(asked), device=device) % classes).split(BATCH)
        samples = torch.cat([seen(generate(subject.model, BATCH, y)) for y in asked])
        rebuilt = torch.cat([seen(reconstruction(subject.model, subject.guide, x)) for x in subject.x.split(BATCH)])
    training = subject.images.without_labels().images("train")
    found = nearest(samples[:SHOWN], training, k=2)
    near = found.distances[:, 0].mean().item()
    own = nearest(subject.images.pictures(subject.few(SHOWN).x), training, k=1).distances[:, 0].mean().item()
    metrics: dict[str, Any] = {"nearest_distance": near, "nearest_distance_of_data": own}
    pictures = {"nearest": plots.beside_nearest(samples[:SHOWN], training[found.indices])}
    notes = [
        f"The mean distance to the nearest training image is {near:.2f} for samples and {own:.2f} for images that were "
        "not trained on: samples much nearer than that would be copies."
    ]
    images = labelled(subject)
    if images is None:
        lacking = (
            f"{subject.images.name} lacks labels for training or testing, so there is no classifier of its classes."
        )
        return Measured(metrics, pictures, [*notes, lacking])
    classifier = cached_classifier(images).to(device)
    shares = class_distribution(classifier, samples)
    held = accuracy(classifier, images.images("test").to(device), images.labels_of("test").to(device))
    metrics |= {
        "classifier": {"trained_on": images.name, "accuracy": held},
        "class_shares": shares.tolist(),
        "class_total_variation": total_variation(shares),
        "class_entropy": entropy(shares),
    }
    pictures["classes"] = plots.class_bars(shares)
    notes.append(
        f"The classes of samples are {total_variation(shares):.3f} from uniform (total variation), with an entropy of "
        f"{entropy(shares):.3f} nats, by a classifier with an accuracy of {held:.1%} on test images."
    )
    if classes is not None:
        metrics["label_accuracy"] = accuracy(classifier, samples, torch.cat(list(asked)))
        notes.append(f"It finds the requested class in {metrics['label_accuracy']:.1%} of samples.")
    if subject.labels is not None:
        metrics["reconstruction_accuracy"] = accuracy(classifier, rebuilt, subject.labels)
        notes.append(f"It finds the right class in {metrics['reconstruction_accuracy']:.1%} of reconstructions.")
    halves = training[torch.randperm(len(training), generator=torch.Generator().manual_seed(0)).to(training.device)]
    count = min(len(samples), len(halves) // 2)
    try:
        theirs, ours = (
            classifier_frechet_distance(classifier, halves[:count], others)
            for others in (samples[:count], halves[count : 2 * count])
        )
    except ValueError as error:
        return Measured(metrics, pictures, [*notes, f"No Fréchet distance: {error}."])
    metrics |= {"classifier_frechet_distance": theirs, "classifier_frechet_distance_of_data": ours}
    notes.append(
        f"The Fréchet distance of {count} samples to as many training images, on the features of that classifier (not "
        f"the Inception FID), is {theirs:.2f}; between halves of the training images it is {ours:.2f}."
    )
    return Measured(metrics, pictures, notes)


def labelled(subject: Subject) -> data.ImageSet | None:
    """Return the images with their labels, or labelled images of the same kind, or None."""
    if {"train", "test"} <= set(subject.images.labels):
        return subject.images.without_labels()
    row = data.DATA_SETS.get(subject.images.name)
    for name in row.labelled_as if row else ():
        try:
            return data.load(name, subject.config["data_dir"], "dynamic").to(subject.x.device)
        except data.DataError:  # neither there nor to be had
            continue
    return None
