"""The learning rate over epochs, and early stopping."""

import copy


class Cooldown:
    """lr(epoch) = lr, and over the last `fraction` of the epochs linearly down towards 0.

    A constant rate, then a short fall: as good as a rate that falls all the way, and a run can be
    lengthened without having begun to fall (Hägele et al. 2024, arXiv:2405.18392).

    Args:
        set_lr: called with the rate before each epoch.
        lr: the constant rate.
        epochs: the last epoch's number.
        fraction: 0 for a constant rate.

    >>> rates = []
    >>> schedule = Cooldown(rates.append, lr=1.0, epochs=10, fraction=0.4)
    >>> for epoch in range(1, 11): schedule(epoch)
    >>> rates
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    """

    def __init__(self, set_lr, lr, epochs, fraction):
        self.set_lr, self.lr, self.epochs, self.length = set_lr, lr, epochs, round(fraction * epochs)

    def __call__(self, epoch):
        remaining = self.epochs + 1 - epoch
        self.set_lr(self.lr * min(1.0, remaining / (self.length + 1)))


class EarlyStopping:
    """Keeps the weights of the epoch with the highest score; done after `patience` epochs without a better one.

    Patience counts from the end of the KL ramp at the earliest: during it the score of a
    rising weight says little.

    Args:
        program: the `nn.Module` to keep, `nn.ModuleList([model, guide])`.
        patience: epochs.
        warmup: epochs of the ramp.

    >>> import torch
    >>> best = EarlyStopping(torch.nn.Linear(1, 1), patience=2)
    >>> for epoch, score in enumerate([-3.0, -1.0, -2.0, -2.0], start=1): best(epoch, score)
    >>> best.epoch, best.score, best.done
    (2, -1.0, True)
    """

    def __init__(self, program, patience, warmup=0):
        self.program, self.patience, self.warmup = program, patience, warmup
        self.epoch, self.score, self.weights, self.last = 0, -float("inf"), None, 0

    def __call__(self, epoch, score):
        self.last = epoch
        if score > self.score:
            self.epoch, self.score = epoch, score
            self.weights = copy.deepcopy(self.program.state_dict())

    @property
    def done(self):
        return self.last - max(self.epoch, self.warmup) >= self.patience

    def restore(self):
        """Puts the best epoch's weights back into the program."""
        if self.weights is not None:
            self.program.load_state_dict(self.weights)

    def state_dict(self):
        return {"epoch": self.epoch, "score": self.score, "weights": self.weights, "last": self.last}

    def load_state_dict(self, state):
        self.epoch, self.score, self.weights, self.last = (state[k] for k in ("epoch", "score", "weights", "last"))
