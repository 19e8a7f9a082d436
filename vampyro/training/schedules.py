"""Learning-rate schedule and early stopping."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Cooldown:
    """Keep the learning rate constant, then decay it linearly towards 0 over the last `fraction` of the epochs.

    This is as good as a decay over all epochs, and a run can be extended as long as the decay has not started
    (Hägele et al. 2024, arXiv:2405.18392).

    Args:
        set_lr: called with the rate before each epoch.
        lr: the constant rate.
        epochs: the number of the last epoch.
        fraction: 0 for a constant rate.

    >>> rates = []
    >>> schedule = Cooldown(rates.append, lr=1.0, epochs=10, fraction=0.4)
    >>> for epoch in range(1, 11): schedule(epoch)
    >>> rates
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    """

    def __init__(self, set_lr: Callable[[float], Any], lr: float, epochs: int, fraction: float) -> None:
        self.set_lr, self.lr, self.epochs, self.length = set_lr, lr, epochs, round(fraction * epochs)

    def __call__(self, epoch: int) -> None:
        remaining = self.epochs + 1 - epoch
        self.set_lr(self.lr * min(1.0, remaining / (self.length + 1)))


class EarlyStopping:
    """Keep the weights of the epoch with the highest score, and stop after `patience` epochs without a better one.

    Epochs before the end of the KL warm-up do not count, because scores with different KL weights cannot be compared.

    Args:
        program: the module whose weights are kept, `nn.ModuleList([model, guide])`.
        patience: number of epochs.
        warmup: number of epochs of the KL warm-up.

    >>> best = EarlyStopping(torch.nn.Linear(1, 1), patience=2)
    >>> for epoch, score in enumerate([-3.0, -1.0, -2.0, -2.0], start=1): best(epoch, score)
    >>> best.epoch, best.score, best.done
    (2, -1.0, True)
    """

    def __init__(self, program: nn.Module, patience: int, warmup: int = 0) -> None:
        self.program, self.patience, self.warmup = program, patience, warmup
        self.epoch, self.score, self.last = 0, -float("inf"), 0
        self.weights: dict[str, torch.Tensor] | None = None

    def __call__(self, epoch: int, score: float) -> None:
        self.last = epoch
        if score > self.score:
            self.epoch, self.score = epoch, score
            self.weights = copy.deepcopy(self.program.state_dict())

    @property
    def done(self) -> bool:
        """Whether training should stop."""
        return self.last - max(self.epoch, self.warmup) >= self.patience

    def restore(self) -> None:
        """Load the weights of the best epoch into the program."""
        if self.weights is not None:
            self.program.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "score": self.score, "weights": self.weights, "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.score, self.weights, self.last = (state[k] for k in ("epoch", "score", "weights", "last"))
