"""The classifier that images are measured with, trained once for each data set."""

import hashlib
import io
import json
import logging
import math
from contextlib import suppress
from pathlib import Path

import platformdirs
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vampyro import files as atomic
from vampyro.programs.modes import evaluation_mode
from vampyro.programs.randomness import seeded

CHUNK = 1000  # images at a time, where a network is only evaluated


class Classifier(nn.Module):
    """p(y | x) = softmax(V dropout(h) + c), h = relu(W x + b); dropout: Hinton et al. 2012, arXiv:1207.0580.

    Args:
        image_shape: (channels, height, width).
        classes: how many.
        hidden: the width of h, which are its features.
        dropout: the probability that training leaves out an element of h.

    forward: (N, *image_shape) in [0, 1] → logits (N, classes).

    >>> Classifier((1, 28, 28))(torch.rand(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    """

    def __init__(self, image_shape, classes=10, *, hidden=256, dropout=0.2):
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.hidden = nn.Linear(torch.Size(self.image_shape).numel(), hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, classes)

    def features(self, x):
        """The penultimate layer h, (N, hidden)."""
        if x.ndim != 4 or x.shape[1:] != self.image_shape:
            expected = ", ".join(map(str, self.image_shape))
            raise ValueError(f"images are of shape {tuple(x.shape)}, this classifier expects (N, {expected})")
        return self.hidden(x.flatten(1)).relu()

    def forward(self, x):
        return self.output(self.dropout(self.features(x)))


@torch.enable_grad()
def train_classifier(
    images,
    labels,
    *,
    batch=None,
    classes=None,
    hidden=256,
    dropout=0.2,
    epochs=10,
    batch_size=100,
    lr=3e-3,
    seed=0,
):
    """A `Classifier` trained on the cross-entropy, in evaluation mode; about 98 % of MNIST's test digits are right.

    Adam, its learning rate falling to 0 in a straight line.

    Args:
        images: (N, channels, height, width) in [0, 1]: train it on what it will see, binary images or grey ones.
        labels: int64 (N,), from 0.
        batch: indices (B,) → their images; unless given, `images[indices]`. `ImageSet.batch` draws the pixels of a
            dynamic binarisation anew.
        classes: how many; unless given, the largest label and one.
        seed: of the weights, the order and the dropout; the caller's generators go on as if nothing had run.

    Raises:
        ValueError: where there is not one label for each image, or a label is outside 0 … classes - 1.

    >>> x = torch.rand(200, 1, 4, 4)
    >>> y = (x[:, 0, 0, 0] > 0.5).long()
    >>> accuracy(train_classifier(x, y, epochs=40, batch_size=20, lr=1e-2), x, y) > 0.9
    True
    """
    _check_labels(images, labels)
    classes = labels.max().item() + 1 if classes is None else classes
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels in {labels.min()}…{labels.max()}, expected 0…{classes - 1}: number the classes from 0"
        )
    batch = batch or images.__getitem__
    with seeded(seed, device=images.device):
        classifier = Classifier(images.shape[1:], classes, hidden=hidden, dropout=dropout).to(images.device)
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


def accuracy(classifier, images: Float[Tensor, " n *image"], labels):
    """The share of images whose most probable class is their label.

    Of reconstructions, with the labels of their originals: how much of what makes an image its class survives.

    Args:
        classifier: images → logits.
        images: (N, channels, height, width).
        labels: int64 (N,).

    Raises:
        ValueError: where there is not one label for each image.

    >>> brightest = lambda x: x.flatten(1)
    >>> accuracy(brightest, torch.eye(4).reshape(4, 1, 2, 2), torch.tensor([0, 1, 2, 0]))
    0.75
    """
    _check_labels(images, labels)
    return (evaluated(classifier, images).argmax(1) == labels).double().mean().item()


def features(classifier, images: Float[Tensor, " n *image"]) -> Float[Tensor, "n hidden"]:
    """The classifier's penultimate layer, (N, hidden), without dropout and gradients.

    >>> features(Classifier((1, 4, 4), hidden=7), torch.rand(3, 1, 4, 4)).shape
    torch.Size([3, 7])
    """
    return evaluated(classifier, images, classifier.features)


@torch.no_grad()
def evaluated(classifier, images, function=None):
    """What `function`, the classifier itself unless given, makes of images, chunk by chunk in evaluation mode."""
    if len(images) < 1:
        raise ValueError("there are no images to classify: at least one is needed")
    with evaluation_mode(classifier):
        return torch.cat([(function or classifier)(x) for x in images.split(CHUNK)])


def _check_labels(images, labels):
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1] or len(labels) < 1:
        raise ValueError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)} for images of shape {tuple(images.shape)}, "
            "expected torch.int64 of shape (N,), one for each image, and at least one"
        )


logger = logging.getLogger(__name__)


def folder():
    """Where the trained classifiers are."""
    return platformdirs.user_cache_path("vampyro") / "classifiers"


def cached_classifier(images, *, hidden=256, dropout=0.2, epochs=10, batch_size=100, lr=3e-3, seed=0, root=None):
    """The `Classifier` of a data set's training images and labels, from the disk if it has been trained before.

    It sees what the model sees: bits where the set is binarised, drawn anew in each epoch where that is dynamic. A
    file is named by the digest of everything that it was trained with, images, labels and settings, and begins with
    the digest of its contents: one that is damaged is trained anew, and the log of this module says so.

    Args:
        images: a `data.ImageSet`; the classifier is on its device.
        root: folder of the classifiers; the user's cache folder unless given. One that cannot be written is no error.
        the others: as in `train_classifier`.

    Raises:
        data.DataError: where the training images have no labels. Samples of static-mnist are classified by the
            classifier of mnist.

    >>> import tempfile; from vampyro import data
    >>> images, root = data.load("mnist5k"), tempfile.mkdtemp()
    >>> classifier = cached_classifier(images, hidden=8, epochs=1, root=root)
    >>> again = cached_classifier(images, hidden=8, epochs=1, root=root)  # from the disk
    >>> torch.equal(again.output.weight, classifier.output.weight)
    True
    """
    labels = images.labels_of("train")
    settings = {
        "hidden": hidden,
        "dropout": dropout,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
    }
    path = Path(root or folder()) / f"{Path(images.name).stem}-{_key(images, labels, settings)[:16]}.pt"
    classifier = Classifier(images.image_shape, labels.max().item() + 1, hidden=hidden, dropout=dropout)
    try:
        classifier.load_state_dict(_read(path))
    except FileNotFoundError:
        logger.info("no classifier of %s yet: training one", images.name)
    except Exception as error:  # torch has a dozen for a file that is not its own
        logger.info("the classifier in %s is damaged, training it anew: %s", path, error)
    else:
        return classifier.to(images.device).eval()
    classifier = train_classifier(images.images("train"), labels, batch=images.batch, **settings)
    with suppress(OSError):  # a folder that cannot be written costs time, and nothing else
        _write(path, classifier.state_dict())
    return classifier


def _key(images, labels, settings):
    """The hexadecimal digest of what a classifier depends on."""
    digest = hashlib.sha256()
    for tensor in images.train, labels:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy())
    digest.update(json.dumps({"binarize": images.binarize, "noise": images.noise, **settings}, sort_keys=True).encode())
    return digest.hexdigest()


def _write(path, state):
    contents = io.BytesIO()
    torch.save(state, contents)
    with atomic.writing(path) as file:
        file.write(hashlib.sha256(contents.getvalue()).digest())
        file.write(contents.getvalue())


def _read(path):
    raw = path.read_bytes()
    digest, contents = raw[:32], raw[32:]
    if hashlib.sha256(contents).digest() != digest:
        raise ValueError("its contents have another digest than it says")
    return torch.load(io.BytesIO(contents), map_location="cpu", weights_only=True)
