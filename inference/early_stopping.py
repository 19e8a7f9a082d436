"""The best epoch so far, and when to give up looking for a better one."""

import copy


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
