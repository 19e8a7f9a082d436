"""MNIST and Fashion-MNIST, by torchvision."""

from pathlib import Path
from types import ModuleType

import torch

from vampyro import files
from vampyro.data.download import provide
from vampyro.data.image_set import ImageSet
from vampyro.data.names import DATA_SETS

# Of the uncompressed files; torchvision has only the compressed ones' md5.
SHA256 = {
    "MNIST": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}
_operators: list[torch.library.Library] = []  # a declared operator lives as long as its library


def torchvision() -> ModuleType:
    """Import the package torchvision, so that it also works for whoever imports it later.

    >>> torchvision().datasets.MNIST.__name__
    'MNIST'
    """
    # Imported when needed, not at the top: it takes a second or more.
    try:
        import torchvision
    except RuntimeError:
        # The wheel of the package index cannot load its compiled operators next to a torch that was built without
        # CUDA, and the import fails where two of them are described. Data sets use neither, so declare them only.
        _operators.append(torch.library.Library("torchvision", "DEF"))
        for operator in ("nms", "qnms"):
            _operators[-1].define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision


def load_mnist(root: Path) -> ImageSet:
    """50,000 / 10,000 / 10,000 grey digits, 28×28; the last 10,000 of the 60,000 training images are validation."""
    return _load("mnist", "MNIST", root)


def load_fashion_mnist(root: Path) -> ImageSet:
    """50,000 / 10,000 / 10,000 grey pictures of clothes, 28×28, split as MNIST is."""
    return _load("fashion-mnist", "FashionMNIST", root)


def _load(name: str, folder: str, root: Path) -> ImageSet:
    datasets = torchvision().datasets
    source = getattr(datasets, folder)
    unpacked = root / folder / "raw"
    for zipped, md5 in source.resources:
        path = unpacked / zipped.removesuffix(".gz")
        urls = [mirror + zipped for mirror in source.mirrors]
        raw = provide(unpacked / zipped, urls, f"md5:{md5}", f"sha256:{SHA256[folder][path.name]}", first=[path])
        if not path.exists() or path.read_bytes() != raw:
            with files.writing(path) as file:
                file.write(raw)
    read = datasets.mnist
    images, test = (read.read_image_file(unpacked / f"{part}-images-idx3-ubyte")[:, None] for part in ("train", "t10k"))
    labels, test_labels = (read.read_label_file(unpacked / f"{part}-labels-idx1-ubyte") for part in ("train", "t10k"))
    count = DATA_SETS[name].counts[0]
    return ImageSet(
        name,
        train=images[:count],
        valid=images[count:],
        test=test,
        labels={"train": labels[:count], "valid": labels[count:], "test": test_labels},
        sha256=SHA256[folder],
    )
