"""A training step on CUDA that Python does not touch: recorded once, then replayed."""

import gc
import logging

import torch
from torch.nn.utils import get_total_norm

from vampyro.programs.compile import first_line
from vampyro.programs.randomness import same_noise
from vampyro.training.engines.eager import EagerStep

WARM_UP = 3  # steps before the recording, in which libraries allocate what they keep


class GraphStep(EagerStep):
    """EagerStep as a CUDA graph: gather, binarise, forward, backward and optimiser are one launch a step.

    `epoch` runs a whole one, and `fit` calls it where it finds it: the order of the images lies on the device, and so
    do a cursor that each replay moves on by a batch and the sum of the losses, which is not finite from the first loss
    that is not. The first steps, and the last where it is short, run eagerly, on the same state.

    Called with a batch, it is an EagerStep.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.reduce is not None:
            raise ValueError("engine graph records the step of one process: choose eager or compiled")
        for group in self.optimizer.param_groups:
            group["capturable"] = True
            group["lr"] = torch.tensor(group["lr"], device=self.weight.device)  # a recorded float would stay as it is
        # The first steps, and a short last batch, are meant to run unrecorded: no reason for torch to warn of them.
        self.optimizer._warned_capturable_if_run_uncaptured = True
        self.graph = None

    def set_lr(self, lr):
        for group in self.optimizer.param_groups:
            group["lr"].fill_(lr)

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.graph = None  # it knows the old tensors

    def epoch(self, data, batch_size):
        """({"loss": sum over images}, how many images); waits for nothing."""
        order = data.order()
        whole = len(order) // batch_size
        made_for = data, batch_size, self.frozen()
        if self.graph is None or (self.graph.data, self.graph.batch_size, self.graph.frozen) != made_for:
            self.graph = _Recording(self, data, batch_size, order)
        self.graph.start(order)
        for _ in range(whole):
            self.graph.step()
        total = self.graph.total.clone()
        if len(rest := order[whole * batch_size :]):
            total = total + self(data.batch(rest))["loss"].double() * len(rest)
        return {"loss": total}, len(order)


class _Recording:
    """The static tensors of a recorded step, and the graph once it is recorded."""

    def __init__(self, update, data, batch_size, order):
        self.update, self.data, self.batch_size, self.frozen = update, data, batch_size, update.frozen()
        self.order = order.clone()
        self.cursor = torch.zeros((), dtype=torch.int64, device=data.device)
        self.offsets = torch.arange(batch_size, device=data.device)
        self.total = torch.zeros((), dtype=torch.float64, device=data.device)
        self.graph, self.warm, self.refused = None, 0, False
        self.stream = torch.cuda.Stream()  # of the first steps and of the recording: one cache of memory for both

    def start(self, order):
        self.order.copy_(order)
        self.cursor.zero_()
        self.total.zero_()

    def body(self):
        """What is recorded."""
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
        """Whether the step was computed: recorded, replayed and found to be the eager one, or else computed eagerly."""
        if self.refused:
            return False
        gc.collect()  # a graph of autograd's that some cycle keeps, from another stream, would spoil the recording
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer one brings this stream back where a failed recording leaves its own.
            with torch.cuda.stream(self.stream), torch.cuda.graph(graph, stream=self.stream):
                self.body()
        except RuntimeError as error:
            self.refuse(first_line(error.__context__ or error))  # the first of two: ending a failed recording fails too
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
            self.refuse("its replay is not what the eager step computes")
            _copy(expected, state)
        return True

    def refuse(self, reason):
        self.refused = True
        logging.getLogger(__name__).warning("cannot record a CUDA graph (%s): training goes on eagerly", reason)

    def state(self):
        """Every tensor that a step changes."""
        parameters = list(self.update.parameters.values())
        memory = [t for p in parameters for t in self.update.optimizer.state[p].values()]
        buffers = list(self.update.program.buffers())  # what learns otherwise than by gradients
        return [p.data for p in parameters] + memory + buffers + [self.cursor, self.total]


def _copy(values, tensors):
    for value, tensor in zip(values, tensors):
        tensor.copy_(value)
