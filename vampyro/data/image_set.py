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
# Independent of the run's seed, so that all runs have the same validation and test images.
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
    """Return 255 with a probability equal to the intensity, otherwise 0; the result is always the same.

    It is sampled on the CPU, because the same seed gives other pixels on another kind of device.
    """
    generator = torch.Generator().manual_seed(SEEDS[split])
    return as_bytes(torch.bernoulli(rescale(images.cpu()), generator=generator)).to(images.device)


def split_arrays(images: np.ndarray, labels: np.ndarray, indices: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of `ImageSet.from_arrays`: the images and labels at the indices of each split."""
    labels = labels.astype(np.int64)
    return {s: images[i] for s, i in indices.items()} | {f"{s}_labels": labels[i] for s, i in indices.items()}


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Training, validation and test images in memory, on one device.

    Images are stored as uint8 grey levels 0..255 and converted to floats in [0, 1] batch by batch. What the model
    observes depends on `binarize`:

    - "fixed": the source is binary.
    - "dynamic": each pixel of a training image with intensity p is sampled from Ber(p) in every epoch. Validation and
      test images are sampled once and are the same for every run.
    - "threshold": pixels above 1/2 are 1, the others 0.
    - "none": grey or colour.

    Attributes:
        name: the name in `data.load`.
        train, valid, test: (N, channels, height, width), uint8 in 0..255, or float32 in [0, 1] like the source.
        labels: {split: int64 (N,)}; empty without labels.
        binarize: as above. Binary splits contain only 0 and 255.
        noise: noise on training images, see `noisy`.
        classes: number of classes if the model also observes labels (see `labelled`), otherwise None.
        sha256: {file: hexadecimal digest} of the (uncompressed) contents.

    Raises:
        DataError: if these conditions do not hold, if a split is empty, or if the splits differ in image shape.

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
        """Return the data set with the arrays train, valid and test, and train_labels, … if there are any.

        Boolean images become the bytes 0 and 255, and the data set is binary.
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
        """The shape of what the model observes of an image: `image_shape`, or (pixels + classes,) with labels."""
        return self.image_shape if self.classes is None else (math.prod(self.image_shape) + self.classes,)

    @property
    def binary(self) -> bool:
        """Whether the model observes only 0 and 1."""
        return self.binarize != "none"

    @property
    def values(self) -> str:
        """The values that the model observes, for which a likelihood must be suitable:

            "binary": 0 and 1.
            "levels": k/255, from bytes.
            "unit": floats in [0, 1].

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
        """Return a grey data set with the binarisation "dynamic" or "threshold"; "none" returns any data set as it is.

        Raises:
            DataError: for another word, or if the data are already binary.

        >>> half = torch.full((2, 1, 2, 2), 128, dtype=torch.uint8)
        >>> ImageSet("half", half, half, half).with_binarisation("threshold").train[0, 0].tolist()
        [[255, 255], [255, 255]]
        """
        if how not in ("dynamic", "threshold", "none"):
            raise DataError(f"binarize is {how!r}, expected dynamic, threshold or none")
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
        """Yield every training image once, in random order, as float32 in [0, 1] of shape (size, *input_shape).

        The last batch is smaller if `size` does not divide the number of images. The order and the pixels of a dynamic
        binarisation come from the device's global generator (`torch.manual_seed`).

        >>> from vampyro import data
        >>> [len(batch) for batch in data.load("mnist5k").batches(1500)]
        [1500, 1500, 1000]
        """
        if size < 1:
            raise DataError(f"the batch size is {size}, expected 1 or more")
        for indices in self.order().split(size):
            yield self.batch(indices)

    def order(self) -> Tensor:
        """Return the indices of the training images in random order."""
        return torch.randperm(len(self.train), device=self.device)

    def batch(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Return training images as the model observes them; a dynamic binarisation samples their pixels again."""
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
        """Return the same data with new noise on every training image in every epoch; `images` does not change.

        Args:
            noise: for binary pixels, the probability that a pixel is flipped. For others, the standard deviation of a
                Normal that is added; the sum is clipped to [0, 1].

        Raises:
            DataError: if it is not in [0, 1].

        >>> from vampyro import data
        >>> images = data.load("mnist5k", binarize="threshold")
        >>> torch.equal(images.noisy(1.0).batch([0]), 1 - images.batch([0]))
        True
        """
        if not 0 <= noise <= 1:
            raise DataError(f"the noise is {noise}, expected a number in [0, 1]")
        return replace(self, noise=noise)

    def labelled(self) -> "ImageSet":
        """Return the same data, with each image as one vector of its pixels and its one-hot label.

        Binarisation and noise apply to the pixels only.

        Raises:
            DataError: if a split has no labels, or if a label is negative or larger than the number of images.

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
                f"a model with --condition label needs labels for every split, and {self.name} has none for {missing}: "
                f"use {LABELLED}, or an .npz file with train_labels, valid_labels and test_labels"
            )
        labels = torch.cat(list(self.labels.values()))
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(labels):  # most classes would be empty, and each takes memory for every image
            found = f"a label {low if low < 0 else high}, and only {len(labels)} images"
            raise DataError(f"{self.name} has {found}: number the classes from 0 without gaps")
        return replace(self, classes=high + 1)

    def without_labels(self) -> "ImageSet":
        """Return the same data, of which the model observes only images."""
        return replace(self, classes=None)

    def inputs(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Join images (N, *image_shape) and labels (N,) to what the model observes, (N, *input_shape)."""
        if self.classes is None:
            return pictures
        places = torch.arange(self.classes, device=pictures.device)
        return torch.cat([pictures.flatten(1), (labels.unsqueeze(1) == places).to(pictures.dtype)], 1)

    def pictures(self, inputs: Tensor) -> Tensor:
        """Return the images in what the model observes: (N, *input_shape) → (N, *image_shape).

        >>> from vampyro import data
        >>> images = data.load("mnist5k")
        >>> torch.equal(images.labelled().pictures(images.labelled().images("test")), images.images("test"))
        True
        """
        if self.classes is None:
            return inputs
        return inputs[:, : math.prod(self.image_shape)].unflatten(1, self.image_shape)

    def labels_of(self, split: str) -> Tensor:
        """Return the labels of a split, int64 (N,), in the order of its images.

        Raises:
            DataError: for another word, or if the split has no labels.

        >>> from vampyro import data
        >>> data.load("mnist5k").labels_of("test")[:12]
        tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1])
        """
        self._check_split(split)
        if split not in self.labels:
            others = f", only for {', '.join(self.labels)}" if self.labels else ""
            raise DataError(f"{self.name} has no labels for {split!r}{others}: use {LABELLED}")
        return self.labels[split]

    def images(self, split: str) -> Tensor:
        """Return a whole split for evaluation, float32 in [0, 1], (N, *input_shape); it is always the same.

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
            raise DataError(f"the split is {split!r}, expected one of {', '.join(SPLITS)}")
