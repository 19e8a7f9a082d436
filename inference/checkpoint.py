"""Checkpoints: written whole or not at all, read without executing anything."""

import hashlib
import io
import os
import zipfile
from pathlib import Path

import torch


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or belongs to another program."""


def save_checkpoint(path, state):
    """Writes a nested dict of tensors and plain values; a reader sees the old file or the new one, never half."""
    path, contents = Path(path), io.BytesIO()
    torch.save(state, contents)  # into memory: what torch's own writer does on a full disk is no OSError
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_bytes(contents.getbuffer())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path):
    """The file's bytes, for `digest` and `load_checkpoint` to be of the same: it may be replaced at any time.

    Raises:
        CheckpointError: missing, or not to be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise CheckpointError(
            f"no checkpoint at {path}: it is missing, or nothing was trained there for a whole epoch"
        ) from None
    except OSError as error:
        raise CheckpointError(f"the checkpoint {path} cannot be read: {error.strerror or error}") from None


def digest(contents):
    """16 hex digits that tell a checkpoint's bytes from any other's."""
    return hashlib.sha256(contents).hexdigest()[:16]


def load_checkpoint(path, device="cpu", contents=None):
    """Reads what `save_checkpoint` wrote; a file from a stranger cannot execute code.

    Args:
        contents: its bytes, where they have been read.

    Raises:
        CheckpointError: missing, corrupt, or holding more than tensors and plain values.
    """
    contents = io.BytesIO(read_checkpoint(path) if contents is None else contents)
    try:
        if zipfile.is_zipfile(contents) and (damaged := zipfile.ZipFile(contents).testzip()):
            raise ValueError(f"{damaged} has another checksum than it says")  # torch does not look at checksums
        contents.seek(0)
        return torch.load(contents, map_location=device, weights_only=True)
    except Exception as error:  # zipfile, pickle and torch have a dozen between them for bad bytes
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"the checkpoint {path} cannot be read ({reason}); delete its folder and train again"
        ) from None


def load_weights(program, weights, source="the checkpoint"):
    """`program.load_state_dict`, with an error that says in a line how the two differ.

    Raises:
        CheckpointError: where `weights` are of another architecture.

    >>> load_weights(torch.nn.Linear(2, 1), torch.nn.Linear(3, 1).state_dict())
    Traceback (most recent call last):
    inference.checkpoint.CheckpointError: the checkpoint holds another architecture: weight is (1, 3), expected (1, 2)
    """
    expected = program.state_dict()
    if not isinstance(weights, dict):
        raise CheckpointError(f"{source} holds no weights, but a {type(weights).__name__}")
    differences = [f"{name} is missing" for name in expected if name not in weights]
    differences += [f"{name} is unknown here" for name in weights if name not in expected]
    shapes = {name: getattr(tensor, "shape", None) for name, tensor in weights.items()}
    differences += [
        f"{name} is {shapes[name] and tuple(shapes[name])}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and shapes[name] != tensor.shape
    ]
    if differences:
        more = f", and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise CheckpointError(f"{source} holds another architecture: {', '.join(differences[:3])}{more}")
    program.load_state_dict(weights)


def check_memory(parameters, memory, source="the checkpoint"):
    """Refuses an optimiser's {parameter: {name: tensor}} whose tensors are neither scalars nor as the parameter.

    Raises:
        CheckpointError: names the parameter.

    >>> check_memory({"w": torch.zeros(3)}, {"w": {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}})
    """
    for name, tensors in memory.items():
        fitting = {torch.Size()} | ({parameters[name].shape} if name in parameters else set())
        if name not in parameters or not {tensor.shape for tensor in tensors.values()} <= fitting:
            raise CheckpointError(f"{source} holds the memory of another optimiser: {name} does not fit")
