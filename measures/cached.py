"""A data set's classifier, trained once and kept."""

import hashlib
import io
import json
import logging
from contextlib import suppress
from pathlib import Path

import platformdirs
import torch

from data import atomic
from measures.classifier import Classifier, train_classifier

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

    >>> import data, tempfile
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
