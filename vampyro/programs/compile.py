"""A loss and its gradients as one graph of tensor operations: Pyro speaks once, and the graph is what it said."""

import logging
from functools import partial
from itertools import compress
from typing import Any

import pyro
import torch
from torch import nn
from torch._guards import TracingContext, tracing
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves, tree_map

from vampyro.programs.randomness import same_noise


def compile_graph(graph, inputs):
    """A graph of tensor operations as machine code: a function of the same inputs."""
    from torch._dynamo.utils import get_metrics_context
    from torch._inductor import compile  # a second to import: only where it is wanted
    from torch._inductor.cpu_vec_isa import pick_vec_isa
    from torch.compiler import config
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    options: dict[str, Any] = {"fallback_random": True}  # torch's random numbers, not the compiler's own
    if all(tensor.device.type == "cpu" for tensor in tree_leaves(inputs)):
        # Keep more results in memory instead of computing them anew inside every sum: a planar flow's gradient is
        # a sixth faster and compiles in two thirds of the time.
        options |= {"realize_reads_threshold": 1, "realize_opcount_threshold": 10}
    # The compiler keeps on disk what it has made, and finds it again, only where a context says how sizes are known.
    # For itself it would find there, too, what was made for a processor with other vectors, and crash.
    mode = FakeTensorMode(shape_env=ShapeEnv())
    kept_for = config.patch(  # type: ignore[attr-defined]
        cache_key_tag=f"{config.cache_key_tag} {pick_vec_isa()}"
    )
    # torch 2.6 counts the time that its cache saves, and fails outside such a context.
    with tracing(TracingContext(mode)), kept_for, get_metrics_context():
        return compile(graph, tree_map(partial(mode.from_tensor, static_shapes=True), inputs), options=options)


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
    made. So the graph is of fixed shapes, and a Python flag that changes later does not change it, nor which parameters
    are trained; what may change is a parameter, a buffer or an input. It draws the same random numbers as the loss
    itself would.

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
        trained = [parameter.requires_grad for parameter in self.parameters]
        names = [[name for name, _ in named()] for named in (module.named_parameters, module.named_buffers)]

        def step(parameters, buffers, *inputs):
            leaves = [tensor.detach().requires_grad_(asks) for tensor, asks in zip(parameters, trained)]
            lent = dict(zip(names[0], leaves)) | dict(zip(names[1], buffers))
            value = torch.func.functional_call(module, lent, inputs)
            found = iter(torch.autograd.grad(value, list(compress(leaves, trained)), allow_unused=True))
            return value.detach(), [next(found) if asks else None for asks in trained]

        # In this thread, or autograd's own for a GPU would run backward where nobody keeps what it does.
        one_thread = torch.autograd.set_multithreading_enabled(False)
        with one_thread, same_noise(inputs[0].device), pyro.validation_enabled(False):
            self.graph = make_fx(step)(*self._tensors(), *inputs)
            if compiled:
                self.graph = compile_graph(self.graph, [*self._tensors(), *inputs])

    def _tensors(self):
        return [p.detach() for p in self.parameters], self.buffers

    def __call__(self, *inputs):
        """(loss, one gradient for each parameter, None where the loss does not depend on it or it is not trained)."""
        return self.graph(*self._tensors(), *inputs)


class Staged:
    """A function of tensors, without gradients, compiled for the shapes that it is first called with.

    Other shapes go the function's own way. So does every call where there is no compiler, or where what it made
    computes something else than the function does; the log says why, once.

    >>> double = Staged(lambda x: 2 * x)
    >>> double(torch.ones(3))
    tensor([2., 2., 2.])
    """

    def __init__(self, function):
        self.function, self.compiled, self.shapes = function, None, None

    def __call__(self, *inputs):
        shapes = [x.shape for x in inputs]
        if self.shapes is None:
            self.shapes = shapes
            return self.stage(*inputs)
        return (self.compiled if self.compiled and shapes == self.shapes else self.function)(*inputs)

    def stage(self, *inputs):
        expected = self.function(*inputs)
        try:
            compiled = compile_graph(make_fx(lambda *inputs: self.function(*inputs))(*inputs), list(inputs))
            for ours, theirs in zip(tree_leaves(compiled(*inputs)), tree_leaves(expected)):
                if not alike(ours, theirs):
                    raise ArithmeticError("what was compiled computes something else")
            self.compiled = compiled
        except Exception as error:  # of a compiler that may be missing, old, or at odds with a stranger's program
            logging.getLogger(__name__).warning("cannot compile (%s): scoring goes on eagerly", first_line(error))
        return expected


def alike(a, b):
    """Equal but for float32's rounding; of truth values, all but a thousandth."""
    if b.dtype == torch.bool:
        return (a ^ b).float().mean() < 1e-3
    return torch.allclose(a, b, rtol=1e-4, atol=1e-3, equal_nan=True)


def first_line(error):
    """Of what an error says, for a log."""
    return (str(error).strip() or repr(error)).splitlines()[0][:200]
