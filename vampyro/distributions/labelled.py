"""Images with their labels in one tensor, and p(x | z, y) as a distribution over it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from vampyro.distributions.base import Distribution, broadcasts_to, times


def join(x: Tensor, y: Tensor) -> Tensor:
    """Images (..., channels, height, width) and one-hot labels (..., classes) as one tensor (..., pixels + classes)."""
    return torch.cat([x.flatten(-3), y.to(x.dtype)], -1)


def split(xy: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The inverse of `join`: images (..., *shape) and labels (..., classes).

    >>> x, y = torch.rand(7, 1, 4, 4), one_hot(torch.arange(7), 10)
    >>> [torch.equal(a, b) for a, b in zip(split(join(x, y), (1, 4, 4)), (x, y))]
    [True, True]
    """
    pixels = math.prod(shape)
    return xy[..., :pixels].unflatten(-1, tuple(shape)), xy[..., pixels:]


def one_hot(labels: Any, classes: int) -> Tensor:
    """Labels (...) as float32 (..., classes); a ValueError where they are not whole numbers in 0 … classes - 1.

    >>> one_hot(2, 4)
    tensor([0., 0., 1., 0.])
    """
    labels = torch.as_tensor(labels)
    if labels.dtype.is_floating_point or labels.dtype == torch.bool or not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"labels {labels.tolist()}: expected whole numbers from 0 to {classes - 1}")
    return (labels.unsqueeze(-1) == torch.arange(classes, device=labels.device)).float()


class LabelledImages(Distribution):
    """p(x | z, y) for every label y: a distribution over images joined with labels, event shape (pixels + classes,).

    log_prob is log p(x | z, y); the label itself is not scored. Labels of samples are uniform unless given.

    Args:
        decode: (z, y) → p(x | z, y), event shape `shape`; y (..., classes), batch dimensions broadcast.
        z: the latent, or one of them, (..., latent).
        shape: of an image, (channels, height, width).
        labels: of samples, whole numbers that broadcast with the batch, or None.

    Raises:
        ValueError: where `labels` are not whole numbers in 0 … classes - 1, or do not broadcast.

    >>> import pyro.distributions as dist
    >>> def decode(z, y): return dist.Bernoulli((z * y).unflatten(-1, (1, 1, 2))).to_event(3)
    >>> p = LabelledImages(decode, torch.ones(3, 2), (1, 1, 2), classes=2, labels=1)
    >>> p, p.given(0).mean[0]
    (LabelledImages(batch 3, images 1×1×2, 2 classes), tensor([[[1., 0.]]]))
    >>> p.sample()[0]                             # two pixels, two places of the label
    tensor([0., 1., 0., 1.])
    """

    arg_constraints = {}
    has_rsample = False
    support = constraints.real_vector
    instead = "p.given(y).{name} is that of the images with label y"

    def __init__(
        self,
        decode: Any,
        z: Tensor,
        shape: Sequence[int],
        classes: int,
        labels: Any = None,
        validate_args: bool | None = None,
    ):
        self.decode, self.z, self.shape_of_images, self.classes = decode, z, torch.Size(shape), classes
        self.labels = None if labels is None else one_hot(labels, classes).to(z.device)
        batch_shape, event_shape = z.shape[:-1], torch.Size((math.prod(shape) + classes,))
        if self.labels is not None and not broadcasts_to(self.labels.shape[:-1], batch_shape):
            count = self.labels[..., 0].numel()
            raise ValueError(f"{count} labels for a batch of {tuple(batch_shape)}: expected one for each, or for all")
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    def given(self, y: Any) -> torch.distributions.Distribution:
        """p(x | z, y); y are labels, or one for all; or, as floats, their one-hot form (..., classes)."""
        y = torch.as_tensor(y, device=self.z.device)
        known = y.is_floating_point() and y.shape[-1:] == (self.classes,)
        return self.decode(self.z, y if known else one_hot(y, self.classes))

    def of(self, xy: Tensor) -> torch.distributions.Distribution:
        """p(x | z, y) with the labels of such images."""
        return self.given(split(xy, self.shape_of_images)[1])

    def log_prob(self, xy: Tensor) -> Tensor:
        x, y = split(xy, self.shape_of_images)
        log_prob = self.given(y).log_prob(x)
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        batch, y = self._extended_shape(sample_shape)[:-1], self.labels
        if y is None:
            y = one_hot(torch.randint(self.classes, batch, device=self.z.device), self.classes)
        y = y.expand(*batch, -1)
        return join(self.decode(self.z, y).sample(), y)

    def __repr__(self) -> str:
        batch, shape = times(self.batch_shape), times(self.shape_of_images)
        return f"LabelledImages(batch {batch}, images {shape}, {self.classes} classes)"
