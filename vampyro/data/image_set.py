"""A data set of images in memory."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from vampyro.data.names import DATA_SETS, SPLITS
from vampyro.data.validate import check_shape, check_values
from vampyro.errors import DataError

LABELLED = f"a data set with labels ({', '.join(row.name for row in DATA_SETS.values() if row.classes)})"
# Not the run's seed: validation and test images have to be the same in every run for the runs to compare.
SEEDS = {"train": 1, "valid": 2, "test": 3}
# binarize → the splits that hold 0 and 255 only.
BLACK_AND_WHITE = {"none": (), "dynamic": ("valid", "test"), "threshold": SPLITS, "fixed": SPLITS}


def rescale(images: Tensor) -> Tensor:
    """Return bytes 0..255 as float32 in [0, 1], and floats as they are.

    >>> rescale(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])
    """
    return images if images.is_floating_point() else images.float().div_(255)


def as_bytes(bits: Tensor) -> Tensor:
    """Return False and True, or 0 and 1, as the bytes 0 and 255."""
    return bits.to(torch.uint8) * 255


def sample_once(images: Tensor, split: str) -> Tensor:
    """Return one sample of 255 with probability the intensity, else 0; the same at every call.

    It is sampled on the CPU, because each kind of device would give other pixels from the same seed.
    """
    generator = torch.Generator().manual_seed(SEEDS[split])
    return as_bytes(torch.bernoulli(rescale(images.cpu()), generator=generator)).to(images.device)


def split_arrays(images: np.ndarray, labels: np.ndarray, indices: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of `ImageSet.from_arrays`: the images and labels at the indices of each split."""
    labels = labels.astype(np.int64)
    return {s: images[i] for s, i in indices.items()} | {f"{s}_labels": labels[i] for s, i in indices.items()}


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Training, validation and test images, whole in memory, on one device.

    Images are uint8 grey levels 0..255, a quarter of their size as floats, and become floats in [0, 1] a batch
    at a time. What the model sees depends on `binarize`:

    - "fixed": the source is binary.
    - "dynamic": training images are grey, and each pixel of intensity p is drawn from Ber(p) every time its image
      is; validation and test images were drawn once, the same for every run.
    - "threshold": pixels above 1/2 are 1, the others 0.
    - "none": grey, or colour.

    Attributes:
        name: what `data.load` was given.
        train, valid, test: (N, channels, height, width), uint8 in 0..255, or float32 in [0, 1] where the source is.
        labels: split → int64 (N,); empty where the source has none.
        binarize: as above. Splits that are binary hold 0 and 255 only.
        noise: of training images, see `noisy`.
        classes: how many labels there are, where the model is given them beside the images (see `labelled`), else None.
        sha256: file → hex digest of its (uncompressed) contents.

    Raises:
        DataError: where these do not hold, a split is empty, or the splits' images differ in shape.

    >>> grey = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8)
    >>> ImageSet("ramp", train=grey, valid=grey, test=grey[:1])
    ImageSet(ramp: 4 / 4 / 1 images of 1×8×8, grey)
    """

    name: str
    train: Tensor
    valid: Tensor
    test: Tensor
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    binarize: str = "none"
    sha256: Mapping[str, str] = field(default_factory=dict)
    noise: float = 0.0
    classes: int | None = None

    def __post_init__(self) -> None:
        if self.binarize not in BLACK_AND_WHITE:
            raise DataError(f"{self.name}: binarize is {self.binarize!r}, not one of {', '.join(BLACK_AND_WHITE)}")
        for split in SPLITS:
            x, what = getattr(self, split), f"{self.name}: {split}"
            check_shape(x.shape, what)
            if x.shape[1:] != self.image_shape:
                own, trains = ("×".join(map(str, shape)) for shape in (x.shape[1:], self.image_shape))
                raise DataError(f"{what} images are {own}, but train's are {trains}: all splits need one image shape")
            check_values(x, what)
            if split in BLACK_AND_WHITE[self.binarize] and (x.dtype != torch.uint8 or ((x != 0) & (x != 255)).any()):
                raise DataError(
                    f"{what} has other values than the bytes 0 and 255, which {self.binarize} binarisation leaves: "
                    "begin with binarize='none' and call .with_binarisation"
                )
        for split, labels in self.labels.items():
            if split not in SPLITS:
                raise DataError(f"{self.name}: labels of {split!r}, which is not one of {', '.join(SPLITS)}")
            found, expected = (labels.dtype, tuple(labels.shape)), (torch.int64, (len(getattr(self, split)),))
            if found != expected:
                raise DataError(
                    f"{self.name}: {split} labels are {found[0]} of shape {found[1]}, "
                    f"expected {expected[0]} of shape {expected[1]}, one for each image"
                )

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, np.ndarray], sha256: Mapping[str, str]) -> "ImageSet":
        """Return the set of the arrays train, valid and test, and their labels train_labels, … where there are any.

        Boolean images become the bytes 0 and 255 of a set that is binary.
        """
        tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
        binary = tensors["train"].dtype == torch.bool
        train, valid, test = (as_bytes(tensors[split]) if binary else tensors[split] for split in SPLITS)
        labels = {split: tensors[f"{split}_labels"] for split in SPLITS if f"{split}_labels" in tensors}
        return cls(name, train, valid, test, labels, "fixed" if binary else "none", dict(sha256))

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(channels, height, width)."""
        return tuple(self.train.shape[1:])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of what the model sees of one image: the image's, or (pixels + classes,) with its label beside it."""
        return self.image_shape if self.classes is None else (math.prod(self.image_shape) + self.classes,)

    @property
    def binary(self) -> bool:
        """Whether the model sees nothing but 0 and 1."""
        return self.binarize != "none"

    @property
    def values(self) -> str:
        """What the model sees, for a likelihood to agree or refuse:

            "binary": nothing but 0 and 1.
            "levels": bytes, k/255.
            "unit": any floats in [0, 1]; the set's tensors are float32.

        >>> grey = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8)
        >>> ramp = ImageSet("ramp", train=grey, valid=grey, test=grey)
        >>> ramp.values, ramp.with_binarisation("dynamic").values
        ('levels', 'binary')
        """
        if self.binary:
            return "binary"
        return "unit" if self.train.is_floating_point() else "levels"

    @property
    def kind(self) -> str:
        """What a person calls such images by their number of channels: `grey`, `colour` or `multi-channel`."""
        return {1: "grey", 3: "colour", 4: "colour"}.get(self.image_shape[0], "multi-channel")

    @property
    def device(self) -> torch.device:
        """Where the images are, and batches are drawn."""
        return self.train.device

    def __repr__(self) -> str:
        counts = " / ".join(str(len(getattr(self, split))) for split in SPLITS)
        values = f"{self.binarize} binarisation" if self.binary else self.kind
        values += "" if self.classes is None else f", {self.classes} labels"
        return f"ImageSet({self.name}: {counts} images of {'×'.join(map(str, self.image_shape))}, {values})"

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same data on another device, still as bytes."""
        train, valid, test = (images.to(device) for images in (self.train, self.valid, self.test))
        labels = {split: labels.to(device) for split, labels in self.labels.items()}
        return replace(self, train=train, valid=valid, test=test, labels=labels)

    def with_binarisation(self, how: str) -> "ImageSet":
        """A grey data set with the binarisation "dynamic", "threshold" or "none"; "none" changes no data set.

        Raises:
            DataError: for another word, or where the data are binary already.

        >>> half = torch.full((2, 1, 2, 2), 128, dtype=torch.uint8)
        >>> ImageSet("half", half, half, half).with_binarisation("threshold").train[0, 0].tolist()
        [[255, 255], [255, 255]]
        """
        if how not in ("dynamic", "threshold", "none"):
            raise DataError(f"binarize is {how!r}: it can be dynamic, threshold or none")
        if how == "none":
            return self
        if self.binary:
            wanted = f"binarize={how!r} needs grey or colour images"
            raise DataError(f"{wanted}, and {self.name} is binary already: leave it out")
        if how == "dynamic":
            valid, test = sample_once(self.valid, "valid"), sample_once(self.test, "test")
            return replace(self, binarize=how, valid=valid, test=test)
        train, valid, test = (as_bytes(rescale(images) > 0.5) for images in (self.train, self.valid, self.test))
        return replace(self, binarize=how, train=train, valid=valid, test=test)

    def batches(self, size: int) -> Iterator[Tensor]:
        """One epoch: every training image once, in random order, as float32 in [0, 1] of shape (size, *input_shape).

        The last batch is smaller where `size` does not divide the number of images. The order, and the pixels of
        a dynamic binarisation, come from the device's global generator, so `torch.manual_seed` decides them.

        >>> from vampyro import data
        >>> [len(batch) for batch in data.load("mnist5k").batches(1500)]
        [1500, 1500, 1000]
        """
        if size < 1:
            raise DataError(f"a batch of {size} images: the size must be 1 or more")
        for indices in self.order().split(size):
            yield self.batch(indices)

    def order(self) -> Tensor:
        """The training images' indices in random order: an epoch."""
        return torch.randperm(len(self.train), device=self.device)

    def batch(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Training images as the model sees them; a dynamic binarisation draws their pixels anew."""
        batch = rescale(self.train[indices])
        if self.binarize == "dynamic":
            batch = torch.bernoulli(batch)
        if self.noise and self.binary:
            batch = torch.where(torch.rand_like(batch) < self.noise, 1 - batch, batch)
        elif self.noise:
            batch = (batch + self.noise * torch.randn_like(batch)).clamp(0, 1)
            batch = (255 * batch).round() / 255 if self.values == "levels" else batch
        return batch if self.classes is None else self.inputs(batch, self.labels["train"][indices])

    def noisy(self, noise: float) -> "ImageSet":
        """The same data with noise on every training image each time it is drawn; `images` stay as they are.

        Args:
            noise: where pixels are binary the probability that one is flipped; where they are grey the standard
                deviation of a Normal that is added, and what leaves [0, 1] is cut off.

        Raises:
            DataError: where it is not in [0, 1].

        >>> from vampyro import data
        >>> images = data.load("mnist5k", binarize="threshold")
        >>> torch.equal(images.noisy(1.0).batch([0]), 1 - images.batch([0]))
        True
        """
        if not 0 <= noise <= 1:
            raise DataError(f"a noise of {noise}: it must be in [0, 1]")
        return replace(self, noise=noise)

    def labelled(self) -> "ImageSet":
        """Return the same data, with each image as one vector of its pixels and its one-hot label.

        Binarisation and noise concern the pixels only.

        Raises:
            DataError: where a split has no labels, or one is negative or larger than there are images.

        >>> from vampyro import data
        >>> images = data.load("mnist5k").labelled()
        >>> images
        ImageSet(mnist5k: 4000 / 500 / 500 images of 1×28×28, dynamic binarisation, 10 labels)
        >>> images.images("test")[3, 784:]
        tensor([0., 0., 0., 1., 0., 0., 0., 0., 0., 0.])
        """
        missing = ", ".join(split for split in SPLITS if split not in self.labels)
        if missing:
            raise DataError(
                f"{self.name} has no labels of {missing}, and a model that is given labels needs those of every split: "
                f"use {LABELLED}, or an .npz file with train_labels, valid_labels and test_labels"
            )
        labels = torch.cat(list(self.labels.values()))
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(labels):  # most classes would be empty, and each takes a place next to every image
            found = f"a label {low if low < 0 else high}, and only {len(labels)} images"
            raise DataError(f"{self.name} has {found}: number the classes from 0 without gaps")
        return replace(self, classes=high + 1)

    def without_labels(self) -> "ImageSet":
        """The same data, of which the model is given images alone."""
        return replace(self, classes=None)

    def inputs(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Any images (N, *image_shape), with labels (N,), as the model is given them: (N, *input_shape)."""
        if self.classes is None:
            return pictures
        places = torch.arange(self.classes, device=pictures.device)
        return torch.cat([pictures.flatten(1), (labels.unsqueeze(1) == places).to(pictures.dtype)], 1)

    def pictures(self, inputs: Tensor) -> Tensor:
        """The images in what the model is given: (N, *input_shape) to (N, *image_shape).

        >>> from vampyro import data
        >>> images = data.load("mnist5k")
        >>> torch.equal(images.labelled().pictures(images.labelled().images("test")), images.images("test"))
        True
        """
        if self.classes is None:
            return inputs
        return inputs[:, : math.prod(self.image_shape)].unflatten(1, self.image_shape)

    def labels_of(self, split: str) -> Tensor:
        """The labels of a split's images, in their order: int64 (N,), as `labels` has them.

        Raises:
            DataError: for another word, or where the source gives that split no labels.

        >>> from vampyro import data
        >>> data.load("mnist5k").labels_of("test")[:12]
        tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1])
        """
        self._check_split(split)
        if split not in self.labels:
            others = f"only of {', '.join(self.labels)}" if self.labels else "of no split: its source has none"
            raise DataError(f"{self.name} has no labels of {split!r}, {others}; use {LABELLED}")
        return self.labels[split]

    def images(self, split: str) -> Tensor:
        """A whole split as the model is evaluated on it: float32 in [0, 1], (N, *input_shape), always the same.

        >>> from vampyro import data
        >>> data.load("mnist5k").images("test").unique()
        tensor([0., 1.])
        """
        self._check_split(split)
        images = getattr(self, split)
        if split == "train" and self.binarize == "dynamic":
            images = sample_once(images, split)
        return rescale(images) if self.classes is None else self.inputs(rescale(images), self.labels[split])

    def _check_split(self, split: str) -> None:
        if split not in SPLITS:
            raise DataError(f"no split {split!r}: there are {', '.join(SPLITS)}")
