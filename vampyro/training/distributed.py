"""Several processes that train one program, as torchrun starts them: one gradient, one optimiser's state, N noises."""

import atexit
import os
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from vampyro.errors import UserError
from vampyro.programs.randomness import reseed

PATIENCE = timedelta(hours=12)  # how long one process waits for another


JOINING = timedelta(minutes=10)  # how long it waits for the others to start


class ProcessError(UserError):
    """Processes that cannot work together, or one that was lost."""


class Processes:
    """This process among `size` that run the same command, `rank` 0 of which writes and prints.

    One process is the same as no torch.distributed at all. Call `join` first.

    >>> Processes()
    Processes(0 of 1)
    """

    def __init__(self, rank=0, size=1):
        self.rank, self.size = rank, size

    @classmethod
    def join(cls, device):
        """All that torchrun started, over NCCL for `device` "cuda" and gloo for "cpu"; alone where nobody did.

        Raises:
            ProcessError: where this machine has fewer GPUs than processes, the others cannot be found, or an
                environment variable of torchrun holds something else.
        """
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            if not (value := os.environ.get(name, "0")).isdecimal():
                raise ProcessError(f"{name}={value}: expected a number, as torchrun sets it; unset {name}")
        if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) < 2:
            return cls()
        cuda = torch.device(device).type == "cuda"
        if cuda:
            count = torch.cuda.device_count()
            local = int(os.environ.get("LOCAL_RANK", int(os.environ["RANK"]) % count))
            if local >= count:
                raise ProcessError(f"{local + 1} processes on {count} GPUs: start no more than there are GPUs")
            torch.cuda.set_device(local)
        if not dist.is_initialized():
            try:
                # Gradients go by NCCL; what is said in words, and waiting, by gloo. One may score for an hour longer.
                store, rank, size = next(dist.rendezvous("env://", timeout=JOINING))
                store.set_timeout(PATIENCE)
                backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
                dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
            except (RuntimeError, ValueError) as error:
                raise ProcessError(f"cannot join the other processes ({error}): start all with torchrun") from None
            atexit.register(dist.destroy_process_group)
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def per_node(self) -> int:
        """Number of processes on this machine, from torchrun."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.size))

    @property
    def leads(self):
        return self.rank == 0

    @contextmanager
    def leader_first(self):
        """The others do what is inside after the leader has: a download, say."""
        if self.size > 1 and not self.leads:
            self._together(dist.barrier)
        yield
        if self.size > 1 and self.leads:
            self._together(dist.barrier)

    def shared(self, value):
        """The leader's value, whatever the others had."""
        if self.size == 1:
            return value
        values = [value]
        self._together(dist.broadcast_object_list, values)
        return values[0]

    def gathered(self, value):
        """Every process's value, in order."""
        values = [value] * self.size
        if self.size > 1:
            self._together(dist.all_gather_object, values, value)
        return values

    def reduce(self, loss, parameters, count):
        """Makes the gradients of means over `count` images here those of the mean over all images.

        One flat tensor goes round, once. The sum is made the same way for everyone, so that every process goes on
        with the same bits.

        Returns:
            {"loss": the mean over all, "images": how many}.
        """
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(g.flatten() for g in gradients), loss.reshape(1), torch.ones_like(loss.reshape(1))])
        flat *= count
        self._together(dist.all_reduce, flat)
        *pieces, loss, count = flat.split([*(p.numel() for p in parameters), 1, 1])
        for parameter, piece in zip(parameters, pieces):
            parameter.grad = piece.div_(count).view_as(parameter)
        return {"loss": (loss / count).squeeze(), "images": count.squeeze()}

    def _together(self, collective, *args):
        try:
            return collective(*args)
        except RuntimeError as error:
            raise ProcessError(f"process {self.rank} of {self.size} lost the others ({str(error)[:100]})") from None

    def __repr__(self):
        return f"Processes({self.rank} of {self.size})"


class Shard:
    """One process's part of every batch: the order is everyone's, the pixels' and the latents' noise its own.

    Args:
        data: has `order()`, `batch(indices)` and `device`; everyone the same.
        processes: a `Processes`.
    """

    def __init__(self, data, processes):
        self.data, self.processes, self.device = data, processes, data.device

    def batches(self, size):
        """As `data.batches(size)`; a part is empty where a short last batch has fewer images than processes."""
        order = self.data.order()
        reseed(int(torch.randint(2**62, (self.processes.size,))[self.processes.rank]), self.device)
        for indices in order.split(size):
            yield self.data.batch(indices[self.processes.rank :: self.processes.size])
