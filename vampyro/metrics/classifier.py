"""The classifier for metrics of images, trained once for each data set."""

import hashlib
import inspect
import logging
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vampyro import files
from vampyro.data import ImageSet
from vampyro.programs.modes import evaluation_mode
from vampyro.programs.randomness import seeded
from vampyro.training.checkpoint import CheckpointError, load_checkpoint

CHUNK = 1000  # images at a time in evaluation
logger = logging.getLogger(__name__)


class Classifier(nn.Module):
    """p(y | x) = softmax(V dropout(h) + c), h = relu(W x + b); dropout: Hinton et al. 2012, arXiv:1207.0580.

    The call maps images (N, *image_shape) in [0, 1] to logits (N, classes). `hidden` is the number of features h, and
    `dropout` the probability that training leaves one out.

    >>> Classifier((1, 28, 28))(torch.rand(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    """

    def __init__(self, image_shape: Sequence[int], classes: int = 10, *, hidden: int = 256, dropout: float = 0.2):
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.hidden = nn.Linear(torch.Size(self.image_shape).numel(), hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the penultimate layer h, (N, hidden)."""
        if x.ndim != 4 or x.shape[1:] != self.image_shape:
            expected = ", ".join(map(str, self.image_shape))
            raise ValueError(f"images are of shape {tuple(x.shape)}, this classifier expects (N, {expected})")
        return self.hidden(x.flatten(1)).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.dropout(self.features(x)))


@torch.enable_grad()
def train_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    batch: Callable[[Tensor], Tensor] | None = None,
    hidden: int = 256,
    dropout: float = 0.2,
    epochs: int = 10,
    batch_size: int = 100,
    lr: float = 3e-3,
    seed: int = 0,
) -> Classifier:
    """Return a `Classifier` in evaluation mode, trained on the cross-entropy by Adam with a linear decay to 0.

    Its accuracy on the test images of MNIST is about 98 %.

    Args:
        images: (N, channels, height, width) in [0, 1], binary or grey as those that it will classify.
        labels: int64 (N,), from 0.
        batch: indices (B,) → images, by default `images[indices]`. `ImageSet.batch` repeats a dynamic binarisation.

    Raises:
        ValueError: there is not one label for each image, or a label is negative.

    >>> x = torch.rand(200, 1, 4, 4)
    >>> y = (x[:, 0, 0, 0] > 0.5).long()
    >>> accuracy(train_classifier(x, y, epochs=40, batch_size=20, lr=1e-2), x, y) > 0.9
    True
    """
    _check_labels(images, labels)
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise ValueError(f"labels in {low}…{high}, expected 0…{high}: number the classes from 0")
    batch = batch or images.__getitem__
    with seeded(seed, device=images.device):
        classifier = Classifier(images.shape[1:], high + 1, hidden=hidden, dropout=dropout).to(images.device)
        optimizer = torch.optim.Adam(classifier.parameters(), lr, fused=True)
        steps = epochs * math.ceil(len(images) / batch_size)
        cooldown = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1, end_factor=0, total_iters=steps)
        for _ in range(epochs):
            for indices in torch.randperm(len(images), device=images.device).split(batch_size):
                loss = functional.cross_entropy(classifier(batch(indices)), labels[indices])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                cooldown.step()
    return classifier.eval()


def accuracy(classifier: Callable[[Tensor], Tensor], images: Float[Tensor, " n *image"], labels: Tensor) -> float:
    """Return the share of images whose most probable class is their label, int64 (N,).

    >>> brightest = lambda x: x.flatten(1)
    >>> accuracy(brightest, torch.eye(4).reshape(4, 1, 2, 2), torch.tensor([0, 1, 2, 0]))
    0.75
    """
    _check_labels(images, labels)
    return (evaluate(classifier, images).argmax(1) == labels).double().mean().item()


def features(classifier: Classifier, images: Float[Tensor, " n *image"]) -> Float[Tensor, "n hidden"]:
    """Return the classifier's penultimate layer, (N, hidden), without dropout and gradients.

    >>> features(Classifier((1, 4, 4), hidden=7), torch.rand(3, 1, 4, 4)).shape
    torch.Size([3, 7])
    """
    return evaluate(classifier.features, images, classifier)


@torch.no_grad()
def evaluate(function: Callable[[Tensor], Tensor], images: Tensor, classifier: nn.Module | None = None) -> Tensor:
    """Return a function's values for images, computed in chunks, with it or `classifier` in evaluation mode."""
    if len(images) < 1:
        raise ValueError("got no images to classify, expected at least one")
    with evaluation_mode(function, classifier):
        return torch.cat([function(x) for x in images.split(CHUNK)])


def _check_labels(images: Tensor, labels: Tensor) -> None:
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1] or len(labels) < 1:
        raise ValueError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)} for images of shape {tuple(images.shape)}, "
            "expected torch.int64 of shape (N,), one for each image, and at least one"
        )


DEFAULTS = str(inspect.signature(train_classifier))  # a classifier of other defaults is another classifier


def folder() -> Path:
    """Return the folder of the trained classifiers."""
    return platformdirs.user_cache_path("vampyro") / "classifiers"


def cached_classifier(
    images: ImageSet,
    *,
    hidden: int = 256,
    dropout: float = 0.2,
    root: str | os.PathLike[str] | None = None,
    **training: Any,
) -> Classifier:
    """Return the `Classifier` of a data set's training images and labels, from the disk if it has been trained before.

    It is trained on the images that the model is trained on, binarised or not. The name of its file is the digest of
    images, labels and settings. A damaged file is replaced, and a folder that cannot be written is not an error.

    Args:
        root: the folder of the classifiers, by default the user's cache folder.
        hidden, dropout, training: as in `train_classifier`.

    Raises:
        data.DataError: the training images have no labels.

    >>> import tempfile; from vampyro import data
    >>> images, root = data.load("mnist5k"), tempfile.mkdtemp()
    >>> classifier = cached_classifier(images, hidden=8, epochs=1, root=root)
    >>> again = cached_classifier(images, hidden=8, epochs=1, root=root)  # from the disk
    >>> torch.equal(again.output.weight, classifier.output.weight)
    True
    """
    labels = images.labels_of("train")
    settings = hidden, dropout, sorted(training.items()), DEFAULTS
    digest = hashlib.sha256(repr((images.binarize, images.noise, settings)).encode())
    for tensor in images.train, labels:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().numpy().tobytes())
    path = Path(root or folder()) / f"{Path(images.name).stem}-{digest.hexdigest()[:16]}.pt"
    if path.exists():
        classifier = Classifier(images.image_shape, int(labels.max()) + 1, hidden=hidden, dropout=dropout)
        try:
            classifier.load_state_dict(load_checkpoint(path))
            return classifier.to(images.device).eval()
        except (CheckpointError, RuntimeError) as error:
            logger.info("the classifier in %s is damaged and will be trained again: %s", path, error)
    x = images.images("train")
    classifier = train_classifier(x, labels, batch=images.batch, hidden=hidden, dropout=dropout, **training)
    # A folder that cannot be written costs time only; on a full disk, torch raises a RuntimeError.
    with suppress(OSError, RuntimeError), files.writing(path) as file:
        torch.save(classifier.state_dict(), file)
    return classifier
