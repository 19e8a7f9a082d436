"""A training step on CUDA that is recorded once and then replayed without Python."""

import gc
import logging
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from vampyro.programs.compile import first_line
from vampyro.programs.randomness import same_noise
from vampyro.training.engines.eager import EagerStep

WARM_UP = 3  # steps before the recording, in which libraries allocate their workspaces


class GraphStep(EagerStep):
    """EagerStep as a CUDA graph: selecting images, binarisation, forward, backward and optimiser in one launch.

    `fit` calls `epoch`, which runs a whole epoch. The order of the images is on the device, and so are a cursor that
    each replay advances by one batch and the sum of the losses. The first steps, and a short last batch, run eagerly on
    the same state. When it is called with a batch, it is an EagerStep.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.reduce is not None:
            raise ValueError("engine graph supports one process: choose eager or compiled")
        for group in self.optimizer.param_groups:
            group["capturable"] = True
            group["lr"] = torch.tensor(group["lr"], device=self.weight.device)  # a recorded float would be constant
        # The first steps and a short last batch run unrecorded on purpose; torch would warn.
        self.optimizer._warned_capturable_if_run_uncaptured = True
        self.graph: _Recording | None = None

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"].fill_(lr)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.graph = None  # it refers to the old tensors

    def epoch(self, data: Any, batch_size: int) -> tuple[dict[str, Tensor], int]:
        """Run one epoch without waiting for the device; return the sum of the losses, and the number of images."""
        order = data.order()
        whole = len(order) // batch_size
        conditions = data, batch_size, self.frozen()
        if self.graph is None or (self.graph.data, self.graph.batch_size, self.graph.frozen) != conditions:
            self.graph = _Recording(self, data, batch_size, order)
        self.graph.start(order)
        for _ in range(whole):
            self.graph.step()
        total = self.graph.total.clone()
        if len(rest := order[whole * batch_size :]):
            total = total + self(data.batch(rest))["loss"].double() * len(rest)
        return {"loss": total}, len(order)


class _Recording:
    """The static tensors of a recorded step, and its graph."""

    def __init__(self, update, data, batch_size, order):
        self.update, self.data, self.batch_size, self.frozen = update, data, batch_size, update.frozen()
        self.order = order.clone()
        self.cursor = torch.zeros((), dtype=torch.int64, device=data.device)
        self.offsets = torch.arange(batch_size, device=data.device)
        self.total = torch.zeros((), dtype=torch.float64, device=data.device)
        self.graph, self.warm, self.refused = None, 0, False
        self.stream = torch.cuda.Stream()  # the first steps and the recording share one memory pool

    def start(self, order):
        self.order.copy_(order)
        self.cursor.zero_()
        self.total.zero_()

    def body(self):
        """Compute one step. This is what is recorded."""
        x = self.data.batch(self.order[self.cursor + self.offsets])
        self.total += self.update(x)["loss"].double() * self.batch_size
        self.cursor += self.batch_size

    def step(self):
        if self.graph is not None:
            self.graph.replay()
        elif self.warm < WARM_UP:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.body()
            torch.cuda.current_stream().wait_stream(self.stream)
            self.warm += 1
        elif not self.record():
            self.body()

    def record(self):
        """Record and replay one step, and compare it with the eager step.

        Returns:
            Whether the step was computed, by replay or eagerly. False if the recording failed.
        """
        if self.refused:
            return False
        gc.collect()  # an autograd graph of another stream, kept by a reference cycle, would break the recording
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer context restores the stream after a failed recording.
            with torch.cuda.stream(self.stream), torch.cuda.graph(graph, stream=self.stream):
                self.body()
        except RuntimeError as error:
            self.refuse(first_line(error.__context__ or error))  # ending a failed recording raises a second error
            return False
        state = self.state()
        before = [tensor.clone() for tensor in state]
        with same_noise(self.data.device):
            self.body()
        expected = [tensor.clone() for tensor in state]
        _copy(before, state)
        graph.replay()
        count = len(self.update.parameters)
        distance = get_total_norm([a - b for a, b in zip(state[:count], expected)])
        if distance <= 1e-2 * get_total_norm([a - b for a, b in zip(expected[:count], before)]):
            self.graph = graph
        else:
            self.refuse("the replay differs from the eager step")
            _copy(expected, state)
        return True

    def refuse(self, reason):
        self.refused = True
        logging.getLogger(__name__).warning("cannot record a CUDA graph (%s): training continues eagerly", reason)

    def state(self):
        """Return every tensor that a step changes."""
        parameters = list(self.update.parameters.values())
        memory = [t for p in parameters for t in self.update.optimizer.state[p].values()]
        buffers = list(self.update.program.buffers())  # for example codebooks
        return [p.data for p in parameters] + memory + buffers + [self.cursor, self.total]


def _copy(values, tensors):
    for value, tensor in zip(values, tensors):
        tensor.copy_(value)
