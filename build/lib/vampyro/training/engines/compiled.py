"""A training step whose loss and gradients are one compiled graph."""

import logging

import pyro
import torch
from torch.nn.utils import get_total_norm

from vampyro.programs.compile import StagedLoss, first_line
from vampyro.programs.randomness import same_noise
from vampyro.training.engines.eager import EagerStep


class CompiledStep(EagerStep):
    """EagerStep with loss and gradients in one compiled graph, for batches of one size and while the same parameters
    are trained; other steps go the eager way.

    What the compiler makes is compared with the eager gradient once, at equal random numbers. Where it differs, or
    where there is no compiler, training goes on eagerly, and the log says why.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.staged, self.met = None, None

    def backward(self, x):
        if self.met is None:
            before = [buffer.clone() for buffer in self.program.buffers()]  # what looking on moves: a mean over batches
            with same_noise(x.device):
                self.validated(x)
            self.stage(x)
            for buffer, value in zip(self.program.buffers(), before):
                buffer.copy_(value)
        if self.staged is None or self.made_for(x) != self.met:
            return super().backward(x)
        loss, gradients = self.staged(x, self.weight)
        for parameter, gradient in zip(self.parameters.values(), gradients):
            parameter.grad = gradient
        return loss

    def made_for(self, x):
        """What a graph holds for given."""
        return x.shape, x.stride(), self.frozen()

    def stage(self, x):
        self.met = self.made_for(x)
        try:
            staged = StagedLoss(self.program, self.loss, x, self.weight)
            self.compare(staged, x)
            self.staged = staged
        except Exception as error:  # of a compiler that may be missing, old, or at odds with a stranger's program
            logging.getLogger(__name__).warning("cannot compile (%s): training goes on eagerly", first_line(error))

    def compare(self, staged, x):
        with same_noise(x.device):
            torch.rand(1, device=x.device)  # other noise than at the trace, of which nothing may be left
            _, ours = staged(x, self.weight)
        with same_noise(x.device), pyro.validation_enabled(False):
            torch.rand(1, device=x.device)
            loss = self.loss(x, self.weight)
        trained = {name: parameter for name, parameter in self.parameters.items() if parameter.requires_grad}
        theirs = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        size = get_total_norm([gradient for gradient in theirs if gradient is not None])
        ours = dict(zip(self.parameters, ours))
        for name, b in zip(trained, theirs):
            a = ours[name]
            # Of each its own length, and no less than float32 leaves of the whole's. Rounding is 1e-5, but where it
            # moves ReLU units across zero a convolutional decoder's small gradients change by 1e-3.
            if b is not None and not (error := (a - b).norm()) <= 5e-3 * b.norm() + 1e-6 * size:
                raise ArithmeticError(f"the compiled gradient of {name} is off by {error / b.norm():.1g} of its length")
