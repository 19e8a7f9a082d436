"""Several processes, started by torchrun, that train one program with a common gradient."""

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vampyro.errors import UserError
from vampyro.programs.randomness import reseed

COLLECTIVE_TIMEOUT = timedelta(hours=12)  # one process may score for hours longer than another
JOIN_TIMEOUT = timedelta(minutes=10)

T = TypeVar("T")


class ProcessError(UserError):
    """Processes cannot start together, or one of them was lost."""


class Processes:
    """This process and the others that run the same command. The leader, rank 0, writes files and prints.

    Without torchrun there is one process, and torch.distributed is not used. Create it with `join`.

    >>> Processes()
    Processes(0 of 1)
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def join(cls, device: str | torch.device) -> "Processes":
        """Connect to the other processes of torchrun, by NCCL for "cuda" and by gloo for "cpu".

        Raises:
            ProcessError: this machine has fewer GPUs than processes, the others do not answer, or an environment
                variable of torchrun is not a number.
        """
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            if not (value := os.environ.get(name, "0")).isdecimal():
                raise ProcessError(f"{name}={value}: expected a number as set by torchrun; unset {name}")
        if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) < 2:
            return cls()
        cuda = torch.device(device).type == "cuda"
        if cuda:
            count = torch.cuda.device_count()
            local = int(os.environ.get("LOCAL_RANK", int(os.environ["RANK"]) % count))
            if local >= count:
                raise ProcessError(f"{local + 1} processes on {count} GPUs: start at most one process per GPU")
            torch.cuda.set_device(local)
        if not dist.is_initialized():
            try:
                # NCCL reduces gradients; gloo exchanges objects and implements barriers.
                store, rank, size = next(dist.rendezvous("env://", timeout=JOIN_TIMEOUT))
                store.set_timeout(COLLECTIVE_TIMEOUT)
                backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
                dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=COLLECTIVE_TIMEOUT)
            except (RuntimeError, ValueError) as error:
                raise ProcessError(
                    f"cannot connect to the other processes ({error}): start all of them with torchrun"
                ) from None
            atexit.register(dist.destroy_process_group)
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def per_node(self) -> int:
        """Number of processes on this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.size))

    @property
    def leads(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Let the others enter after the leader has left, for example for a download."""
        if self.size > 1 and not self.leads:
            self._together(dist.barrier)
        yield
        if self.size > 1 and self.leads:
            self._together(dist.barrier)

    def broadcast(self, value: Any) -> Any:
        """Return the value of the leader in every process."""
        if self.size == 1:
            return value
        values = [value]
        self._together(dist.broadcast_object_list, values)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, ordered by rank."""
        values = [value] * self.size
        if self.size > 1:
            self._together(dist.all_gather_object, values, value)
        return values

    def reduce(self, loss: Tensor, parameters: Sequence[nn.Parameter], count: int) -> dict[str, Tensor]:
        """Replace the gradients of the mean over `count` local images by those of the mean over all images.

        One all-reduce of one flat tensor. Every process gets a bit-identical result.

        Returns:
            `loss`, the mean over all images, and `images`, their number.
        """
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(g.flatten() for g in gradients), loss.reshape(1), torch.ones_like(loss.reshape(1))])
        flat *= count
        self._together(dist.all_reduce, flat)
        *pieces, total, images = flat.split([*(p.numel() for p in parameters), 1, 1])
        for parameter, piece in zip(parameters, pieces):
            parameter.grad = piece.div_(images).view_as(parameter)
        return {"loss": (total / images).squeeze(), "images": images.squeeze()}

    def _together(self, collective: Callable, *args: Any) -> Any:
        try:
            return collective(*args)
        except RuntimeError as error:
            raise ProcessError(
                f"process {self.rank} of {self.size} lost the connection to the others ({str(error)[:100]})"
            ) from None

    def __repr__(self) -> str:
        return f"Processes({self.rank} of {self.size})"


class Shard:
    """The part of every batch that belongs to one process.

    All processes use the same order of images, and each has its own random numbers for pixels and latents.

    Args:
        data: has `order()`, `batch(indices)` and `device`; the same in all processes.
    """

    def __init__(self, data: Any, processes: Processes) -> None:
        self.data, self.processes, self.device = data, processes, data.device

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield this process's part of each batch. It is empty if the last batch has fewer images than processes."""
        order = self.data.order()
        reseed(int(torch.randint(2**62, (self.processes.size,))[self.processes.rank]), self.device)
        for indices in order.split(size):
            yield self.data.batch(indices[self.processes.rank :: self.processes.size])
