"""The training loop."""

import math
import time
from collections.abc import Iterable
from functools import partial
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from vampyro.programs.randomness import seeded


@runtime_checkable
class Batches(Protocol):
    """What data must have for `fit`."""

    @property
    def device(self) -> torch.device:
        """Where the batches are."""

    def batches(self, size: int) -> Iterable[Tensor]:
        """One epoch of training batches."""


@runtime_checkable
class RunsEpochs(Protocol):
    """An update that runs whole epochs itself, faster than step by step."""

    def epoch(self, data: Any, batch_size: int) -> tuple[dict[str, Tensor], int]:
        """Sums over images, and the number of images."""


def fit(update, data: Any, *, epochs, batch_size=100, seed=0, first=1, before_epoch=(), evaluate=None):
    """Trains for `epochs` epochs and yields one dict of metrics after each.

    The loop knows nothing but `update`: what is learned, and how, is its caller's. Stop early by leaving
    the generator. Each epoch draws its random numbers from (seed, epoch), so that training
    continued at `first` computes what training from 1 would have, whatever ran in between, if program,
    optimiser and schedules are where they were.

    Args:
        update: x → dict of numbers (scalar tensors or floats), means over the batch, or over as many "images" as it
            says; or one number, the loss: of stock Pyro `lambda x: svi.step(x) / len(x)`. One with a
            method `epoch(data, batch_size)` → (dict of sums over images, number of images) runs its epochs itself.
        data: has `batches(size)`, one epoch of training batches, and `device`.
        epochs: the last epoch's number.
        first: the first epoch's number.
        before_epoch: callables that get the epoch's number before it starts (`KLWeight`, say).
        evaluate: () → dict of floats, called after each epoch, with the same random numbers every time.

    Yields:
        {"epoch", what update returns as means over the epoch's images, what evaluate returns, "seconds" of training}.

    Raises:
        TypeError: where `data` has no batches, as a tensor has none, or `update` returns something else.
        FloatingPointError: where an epoch's loss, or another of its metrics, is not finite.

    >>> from vampyro import assemble, data; from vampyro.training import make_update
    >>> images = data.load("mnist5k")
    >>> model, guide = assemble(prior="standard", hidden=(32,), latent=2)
    >>> for metrics in fit(make_update(model, guide), images, epochs=2): metrics["epoch"]
    1
    2
    """
    if not isinstance(data, Batches):
        raise TypeError(
            f"fit expects data with batches(size) and a device, as data.load(NAME) gives, got a {type(data).__name__}"
        )
    run_epoch = update.epoch if isinstance(update, RunsEpochs) else partial(_epoch, update)
    for epoch in range(first, epochs + 1):
        began = time.perf_counter()
        for callback in before_epoch:
            callback(epoch)
        with seeded(seed, epoch, device=data.device):
            totals, count = run_epoch(data, batch_size)
        # The only numbers that an epoch reads back from the device.
        metrics = {name: float(total / count) for name, total in totals.items()}
        seconds = time.perf_counter() - began
        _check_finite(metrics, epoch)  # first: a program of such numbers may fail otherwise, and say less
        if evaluate is not None:
            with seeded(seed, 0, device=data.device):
                metrics.update(evaluate())
        _check_finite(metrics, epoch)
        yield {"epoch": epoch, **metrics, "seconds": seconds}


def _check_finite(metrics, epoch):
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} is {value} in epoch {epoch}")


def _epoch(update, data, batch_size):
    totals: dict[str, Any] = {}
    count = 0
    for x in data.batches(batch_size):
        metrics = _numbers(update(x))
        images = metrics.pop("images", len(x))
        for name, value in metrics.items():
            totals[name] = totals.get(name, 0.0) + value * images
        count = count + images
    return totals, count


def _numbers(metrics):
    """What an update returned as {name: float or float64 tensor}; a single number is the loss."""
    if not isinstance(metrics, dict):
        metrics = {"loss": metrics}
    numbers: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            numbers[name] = value.detach().reshape(()).double()
        elif isinstance(value, Real):
            numbers[name] = value
        else:
            what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
            raise TypeError(
                f"update returned {what} for {name!r}, expected a number, the mean over the batch; an update returns "
                'one number or a dict of numbers, {"loss": loss} for example'
            )
    return numbers
