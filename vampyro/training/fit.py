"""The training loop."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from vampyro.programs.randomness import seeded


@runtime_checkable
class Batches(Protocol):
    """Training data, as `fit` expects them."""

    @property
    def device(self) -> torch.device:
        """The device of the batches."""

    def batches(self, size: int) -> Iterable[Tensor]:
        """Yield the training batches of one epoch."""


@runtime_checkable
class RunsEpochs(Protocol):
    """An update that runs whole epochs faster than step by step."""

    def epoch(self, data: Any, batch_size: int) -> tuple[dict[str, Tensor], int]:
        """Run one epoch; return the sums over images of the metrics, and the number of images."""


def fit(
    update: Callable[[Tensor], Any],
    data: Any,
    *,
    epochs: int,
    batch_size: int = 100,
    seed: int = 0,
    first: int = 1,
    before_epoch: Iterable[Callable[[int], Any]] = (),
    evaluate: Callable[[], dict[str, float]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Train until epoch `epochs`, and yield a dict of metrics after each epoch.

    Leave the loop over this generator to stop early. The random numbers of an epoch depend only on (seed, epoch), so
    training that is resumed at epoch `first` computes the same as uninterrupted training, if the program, the optimiser
    and the schedules are restored.

    Args:
        update: x → the loss, or a dict of numbers: means over the batch, or over as many `images` as it contains. With
            stock Pyro: `lambda x: svi.step(x) / len(x)`. An update with a method `epoch` (`RunsEpochs`) runs whole
            epochs itself.
        data: has `device` and `batches(size)` (`Batches`).
        epochs: the number of the last epoch.
        first: the number of the first epoch.
        before_epoch: called with the number of each epoch before it starts, for example `KLWeight`.
        evaluate: called after each epoch, with the same random numbers every time.

    Yields:
        `epoch`, the means over images of what update returns, what evaluate returns, and the `seconds` of training.

    Raises:
        TypeError: `data` has no batches, or `update` does not return numbers.
        FloatingPointError: the loss or another metric of an epoch is not finite.

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
        # Only here does an epoch wait for the device.
        metrics = {name: float(total / count) for name, total in totals.items()}
        seconds = time.perf_counter() - began
        _check_finite(metrics, epoch)  # before evaluation, which may fail with a less helpful error
        if evaluate is not None:
            with seeded(seed, 0, device=data.device):
                metrics.update(evaluate())
        _check_finite(metrics, epoch)
        yield {"epoch": epoch, **metrics, "seconds": seconds}


def _check_finite(metrics: dict[str, float], epoch: int) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} is {value} in epoch {epoch}")


def _epoch(update: Callable[[Tensor], Any], data: Batches, batch_size: int) -> tuple[dict[str, Any], Any]:
    totals: dict[str, Any] = {}
    count: Any = 0
    for x in data.batches(batch_size):
        metrics = _numbers(update(x))
        images = metrics.pop("images", len(x))
        for name, value in metrics.items():
            totals[name] = totals.get(name, 0.0) + value * images
        count = count + images
    return totals, count


def _numbers(metrics: Any) -> dict[str, Any]:
    """Convert the result of an update to floats and float64 tensors; a single number is the loss."""
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
                f"update returned {what} for {name!r}, expected a number, the mean over the batch; return one number "
                'or a dict of numbers, for example {"loss": loss}'
            )
    return numbers
