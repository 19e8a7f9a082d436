"""A loss and its gradients as one graph of tensor operations: Pyro speaks once, and the graph is what it said."""

import pyro
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from inference.rng import same_noise


def compile_graph(graph, inputs):
    """A graph of tensor operations as machine code: a function of the same inputs."""
    from torch._inductor import compile  # a second to import: only where it is wanted

    options = {
        "fallback_random": True,  # torch's random numbers, not the compiler's own
        # Keep more results in memory instead of computing them anew inside every sum: a planar flow's gradient is
        # a sixth faster and compiles in two thirds of the time.
        "realize_reads_threshold": 1,
        "realize_opcount_threshold": 10,
    }
    return compile(graph, inputs, options=options)


class _With(nn.Module):
    """A function of `program`, as a module, so that `functional_call` can lend `program` other tensors."""

    def __init__(self, program, function):
        super().__init__()
        self.program, self.function = program, function

    def forward(self, *inputs):
        return self.function(*inputs)


class StagedLoss:
    """loss(*inputs) and its gradients by the parameters of `program`, traced once and compiled.

    The trace runs Python, Pyro's handlers and autograd one time, non-strictly: it keeps the tensor operations that they
    made. So the graph is of fixed shapes, and a Python flag that changes later does not change it; what may change
    is a parameter, a buffer or an input. It draws the same random numbers as the loss itself would.

    Args:
        program: the `nn.Module` that holds every parameter and buffer of `loss`.
        loss: tensors → scalar.
        inputs: for the shapes.
        compiled: False leaves the graph to torch's interpreter, to look at or to capture.

    Raises:
        whatever tracing or the compiler raises; most of all where the loss branches on a tensor's value.

    >>> program = nn.Linear(2, 1)
    >>> staged = StagedLoss(program, lambda x: program(x).square().sum(), torch.ones(3, 2), compiled=False)
    >>> loss, gradients = staged(torch.ones(3, 2))
    >>> [gradient.shape for gradient in gradients]
    [torch.Size([1, 2]), torch.Size([1])]
    """

    def __init__(self, program, loss, *inputs, compiled=True):
        self.parameters, self.buffers = list(program.parameters()), list(program.buffers())
        module = _With(program, loss)
        names = [[name for name, _ in named()] for named in (module.named_parameters, module.named_buffers)]

        def step(parameters, buffers, *inputs):
            leaves = [tensor.detach().requires_grad_() for tensor in parameters]
            lent = dict(zip(names[0], leaves)) | dict(zip(names[1], buffers))
            value = torch.func.functional_call(module, lent, inputs)
            return value.detach(), torch.autograd.grad(value, leaves, allow_unused=True)

        with same_noise(inputs[0].device), pyro.validation_enabled(False):
            self.graph = make_fx(step)(*self._tensors(), *inputs)
            if compiled:
                self.graph = compile_graph(self.graph, [*self._tensors(), *inputs])

    def _tensors(self):
        return [p.detach() for p in self.parameters], self.buffers

    def __call__(self, *inputs):
        """(loss, one gradient for each parameter, None where the loss does not depend on it)."""
        return self.graph(*self._tensors(), *inputs)
