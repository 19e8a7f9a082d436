"""The learning rate over epochs."""


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
