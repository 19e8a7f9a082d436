"""A training step with loss and gradients in one compiled graph."""

import logging
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from vampyro.programs.compile import StagedLoss, first_line
from vampyro.programs.randomness import same_noise
from vampyro.training.engines.eager import EagerStep


class CompiledStep(EagerStep):
    """EagerStep with loss and gradients in one compiled graph.

    The graph is valid for batches of one size and one set of trained parameters; other steps run eagerly. The compiled
    gradient is compared once with the eager gradient at equal random numbers. If they differ, or if there is no
    compiler, training continues eagerly and the log says why.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.staged: StagedLoss | None = None
        self.compiled_for: tuple | None = None

    def backward(self, x: Tensor) -> Tensor:
        if self.compiled_for is None:
            before = [buffer.clone() for buffer in self.program.buffers()]  # a forward pass may update running means
            with same_noise(x.device):
                self.check_loss(x)
            self.stage(x)
            for buffer, value in zip(self.program.buffers(), before):
                buffer.copy_(value)
        if self.staged is None or self.conditions(x) != self.compiled_for:
            return super().backward(x)
        loss, gradients = self.staged(x, self.weight)
        for parameter, gradient in zip(self.parameters.values(), gradients):
            parameter.grad = gradient
        return loss

    def conditions(self, x: Tensor) -> tuple:
        """Return everything that a compiled graph assumes to be constant."""
        return x.shape, x.stride(), self.frozen()

    def stage(self, x: Tensor) -> None:
        """Compile the step for batches like x."""
        self.compiled_for = self.conditions(x)
        try:
            staged = StagedLoss(self.program, self.loss, x, self.weight)
            self.compare(staged, x)
            self.staged = staged
        except Exception as error:  # the compiler may be missing or old, or may not support this program
            logging.getLogger(__name__).warning("cannot compile (%s): training continues eagerly", first_line(error))

    def compare(self, staged: StagedLoss, x: Tensor) -> None:
        """Raise an ArithmeticError if the compiled gradient differs from the eager one."""
        with same_noise(x.device):
            torch.rand(1, device=x.device)  # other random numbers than during tracing, to detect constants
            _, gradients = staged(x, self.weight)
        with same_noise(x.device), pyro.validation_enabled(False):
            torch.rand(1, device=x.device)
            loss = self.loss(x, self.weight)
        trained = {name: parameter for name, parameter in self.parameters.items() if parameter.requires_grad}
        theirs = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        size = get_total_norm([gradient for gradient in theirs if gradient is not None])
        ours = dict(zip(self.parameters, gradients))
        for name, b in zip(trained, theirs):
            a: Any = ours[name]
            # Relative to each gradient, plus the float32 rounding of the whole gradient. Rounding is about 1e-5, but
            # where it switches ReLU units, small gradients of a convolutional decoder change by 1e-3.
            if b is not None and not (error := (a - b).norm()) <= 5e-3 * b.norm() + 1e-6 * size:
                raise ArithmeticError(f"the compiled gradient of {name} is off by {error / b.norm():.1g} of its length")
