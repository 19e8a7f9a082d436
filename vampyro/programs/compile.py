"""Compile a loss and its gradients, or another function of tensors, as one graph of tensor operations."""

import logging
from collections.abc import Callable
from functools import partial
from itertools import compress
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch._guards import TracingContext, tracing
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves, tree_map

from vampyro.programs.randomness import same_noise


def compile_graph(graph: Any, inputs: list) -> Any:
    """Compile a graph of tensor operations to a function of the same inputs."""
    from torch._dynamo.utils import get_metrics_context
    from torch._inductor import compile  # takes a second to import
    from torch._inductor.cpu_vec_isa import pick_vec_isa
    from torch.compiler import config
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    options: dict[str, Any] = {"fallback_random": True}  # torch's random numbers, not the compiler's own
    if all(tensor.device.type == "cpu" for tensor in tree_leaves(inputs)):
        # Store more results instead of computing them again inside every sum. A planar flow's gradient is then a sixth
        # faster and compiles in two thirds of the time.
        options |= {"realize_reads_threshold": 1, "realize_opcount_threshold": 10}
    # The compiler uses its cache on disk only inside a tracing context. Without the tag it would also load code for a
    # processor with other vector instructions, and crash.
    mode = FakeTensorMode(shape_env=ShapeEnv())
    tag = f"{config.cache_key_tag} {pick_vec_isa()}"
    tagged = config.patch(cache_key_tag=tag)  # type: ignore[attr-defined]
    # torch 2.6 counts the time that its cache saves, and fails outside such a context.
    with tracing(TracingContext(mode)), tagged, get_metrics_context():
        return compile(graph, tree_map(partial(mode.from_tensor, static_shapes=True), inputs), options=options)


class _With(nn.Module):
    """A function of `program` as a module, so that `functional_call` can replace the tensors of `program`."""

    def __init__(self, program: nn.Module, function: Callable):
        super().__init__()
        self.program, self.function = program, function

    def forward(self, *inputs):
        return self.function(*inputs)


class StagedLoss:
    """loss(*inputs) and its gradients with respect to the parameters of `program`, traced once and compiled.

    Tracing runs Python, Pyro's handlers and autograd once and records the tensor operations. Values of parameters,
    buffers and inputs may change later. Shapes, Python flags and the choice of trained parameters may not. The graph
    uses the same random numbers as the loss itself.

    Args:
        program: the `nn.Module` that holds every parameter and buffer of `loss`.
        loss: tensors → scalar.
        inputs: tensors of the shapes to compile for.
        compiled: False leaves the graph to torch's interpreter, for inspection or for capture in a CUDA graph.

    Raises:
        any error of tracing or of the compiler, for example if the loss branches on a tensor's value.

    >>> program = nn.Linear(2, 1)
    >>> staged = StagedLoss(program, lambda x: program(x).square().sum(), torch.ones(3, 2), compiled=False)
    >>> loss, gradients = staged(torch.ones(3, 2))
    >>> [gradient.shape for gradient in gradients]
    [torch.Size([1, 2]), torch.Size([1])]
    """

    def __init__(self, program: nn.Module, loss: Callable, *inputs: Tensor, compiled: bool = True):
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

        # Tracing records this thread only, and autograd runs backward for a GPU in a thread of its own.
        one_thread = torch.autograd.set_multithreading_enabled(False)
        with one_thread, same_noise(inputs[0].device), pyro.validation_enabled(False):
            self.graph = make_fx(step)(*self._tensors(), *inputs)
            if compiled:
                self.graph = compile_graph(self.graph, [*self._tensors(), *inputs])

    def _tensors(self):
        return [p.detach() for p in self.parameters], self.buffers

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Return the loss and a list of gradients; None for a parameter that is frozen or not part of the loss."""
        return self.graph(*self._tensors(), *inputs)


class Staged:
    """A function of tensors, without gradients, compiled for the shapes of its first call.

    Calls with other shapes run the function itself. So do all calls if compilation fails or if the compiled function
    returns other values; a warning gives the reason.

    >>> double = Staged(lambda x: 2 * x)
    >>> double(torch.ones(3))
    tensor([2., 2., 2.])
    """

    def __init__(self, function: Callable):
        self.function = function
        self.compiled: Callable | None = None
        self.shapes: list | None = None

    def __call__(self, *inputs: Tensor) -> Any:
        shapes = [x.shape for x in inputs]
        if self.shapes is None:
            self.shapes = shapes
            return self.stage(*inputs)
        return (self.compiled if self.compiled and shapes == self.shapes else self.function)(*inputs)

    def stage(self, *inputs: Tensor) -> Any:
        """Compute the function itself once, compile it, and compare the two results."""
        expected = self.function(*inputs)
        try:
            compiled = compile_graph(make_fx(lambda *inputs: self.function(*inputs))(*inputs), list(inputs))
            if not all(map(_close, tree_leaves(compiled(*inputs)), tree_leaves(expected))):
                raise ArithmeticError("the compiled function returns other values")
            self.compiled = compiled
        except Exception as error:  # the compiler may be missing, old, or unable to compile the user's program
            logging.getLogger(__name__).warning("cannot compile (%s): scoring goes on eagerly", first_line(error))
        return expected


def _close(a: Tensor, b: Tensor) -> Any:
    """Return whether two tensors agree up to float32 rounding, or boolean ones up to a thousandth of the elements."""
    if b.dtype == torch.bool:
        return (a ^ b).float().mean() < 1e-3
    return torch.allclose(a, b, rtol=1e-4, atol=1e-3, equal_nan=True)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, for a log."""
    return (str(error).strip() or repr(error)).splitlines()[0][:200]
