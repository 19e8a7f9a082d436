"""Checkpoints: written whole or not at all, read without executing anything."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vampyro.errors import UserError
from vampyro.files import replacing
from vampyro.memory import is_out_of_memory


class CheckpointError(UserError):
    """A checkpoint that cannot be read or belongs to another program."""


def save_checkpoint(path, state):
    """Writes a nested dict of tensors and plain values; a reader sees the old file or the new one, never half."""
    contents = io.BytesIO()
    torch.save(state, contents)  # into memory: what torch's own writer does on a full disk is no OSError
    with replacing(Path(path), parents=False) as temporary:
        temporary.write_bytes(contents.getbuffer())


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
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"the checkpoint {path} cannot be read ({reason}); delete its folder and train again"
        ) from None


def weight_faults(expected: Mapping[str, Tensor], weights: object) -> list[str]:
    """Describe how `weights` differ from a state dict whose tensors are like `expected`, a phrase for each difference.

    >>> weight_faults(torch.nn.Linear(2, 1).state_dict(), torch.nn.Linear(3, 1).state_dict())
    ['weight is (1, 3), expected (1, 2)']
    """
    if not isinstance(weights, dict):
        return [f"its weights are of type {type(weights).__name__}, expected a dict of tensors"]
    faults = [f"{name} is missing" for name in expected if name not in weights]
    faults += [f"{name!s:.80} is unknown here" for name in weights if name not in expected]
    found = {name: tensor_fault(weights[name], like) for name, like in expected.items() if name in weights}
    return faults + [f"{name} {fault}" for name, fault in found.items() if fault]


def tensor_fault(value: object, like: Tensor, finite: bool = True) -> str | None:
    """Describe the fault of a tensor that should be dense, like `like` in shape and dtype, and finite where `like` is.

    >>> tensor_fault(torch.zeros(2), torch.zeros(3)), tensor_fault(torch.zeros(3), torch.zeros(3))
    ('is (2), expected (3)', None)
    >>> tensor_fault(torch.tensor([0.0, float("nan")]), torch.zeros(2))
    'holds numbers that are not finite'
    """
    if not isinstance(value, Tensor):
        return f"is of type {type(value).__name__}, expected a tensor"
    dense = value.layout == torch.strided and not value.is_quantized and value.device.type != "meta"
    # In an expanded tensor one number stands for many, and could not be written to.
    if not dense or value.untyped_storage().nbytes() < value.numel() * value.element_size():
        return "is not a dense tensor with values"
    if value.shape != like.shape:
        return f"is {_sizes(value)}, expected {_sizes(like)}"
    if value.dtype != like.dtype:
        return f"holds {value.dtype}, expected {like.dtype}"
    if finite and not (value.isfinite() | ~like.isfinite().to(value.device)).all():
        return "holds numbers that are not finite"
    return None


def _sizes(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
