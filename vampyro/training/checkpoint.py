"""Checkpoint files: written atomically, read without executing code, and checked against a program."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vampyro.errors import UserError
from vampyro.files import replacing
from vampyro.memory import is_out_of_memory


class CheckpointError(UserError):
    """A checkpoint cannot be read or belongs to another program."""


def save_checkpoint(path: str | Path, state: dict) -> None:
    """Write a nested dict of tensors and plain values. A reader sees the old file or the new one."""
    contents = io.BytesIO()
    torch.save(state, contents)  # into memory, because on a full disk torch does not raise an OSError
    with replacing(Path(path), parents=False) as temporary:
        temporary.write_bytes(contents.getbuffer())


def read_checkpoint(path: str | Path) -> bytes:
    """Return the bytes of the file, so that `digest` and `load_checkpoint` see the same version of it.

    Raises:
        CheckpointError: the file is missing or cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise CheckpointError(
            f"no checkpoint at {path}: the file is missing, or no epoch has been completed there"
        ) from None
    except OSError as error:
        raise CheckpointError(f"the checkpoint {path} cannot be read: {error.strerror or error}") from None


def digest(contents: bytes) -> str:
    """Return 16 hexadecimal digits that identify the contents of a checkpoint."""
    return hashlib.sha256(contents).hexdigest()[:16]


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu", contents: bytes | None = None) -> Any:
    """Read a file of `save_checkpoint`. A file from someone else cannot execute code.

    Args:
        contents: the bytes of the file, if they have been read.

    Raises:
        CheckpointError: the file is missing, damaged, or contains more than tensors and plain values.
    """
    file = io.BytesIO(read_checkpoint(path) if contents is None else contents)
    try:
        if zipfile.is_zipfile(file) and (damaged := zipfile.ZipFile(file).testzip()):
            raise ValueError(f"the checksum of {damaged} is wrong")  # torch does not verify checksums
        file.seek(0)
        return torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # zipfile, pickle and torch raise many kinds for damaged files
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"the checkpoint {path} cannot be read ({reason}); delete its folder and train again"
        ) from None


def weight_faults(expected: Mapping[str, Tensor], weights: object) -> list[str]:
    """Describe how `weights` differ from a state dict with tensors like `expected`, one phrase per difference.

    >>> weight_faults(torch.nn.Linear(2, 1).state_dict(), torch.nn.Linear(3, 1).state_dict())
    ['weight is (1, 3), expected (1, 2)']
    """
    if not isinstance(weights, dict):
        return [f"the weights are of type {type(weights).__name__}, expected a dict of tensors"]
    faults = [f"{name} is missing" for name in expected if name not in weights]
    faults += [f"{name!s:.80} is unknown here" for name in weights if name not in expected]
    found = {name: tensor_fault(weights[name], like) for name, like in expected.items() if name in weights}
    return faults + [f"{name} {fault}" for name, fault in found.items() if fault]


def tensor_fault(value: object, like: Tensor, finite: bool = True) -> str | None:
    """Describe the fault of a tensor that should be dense, of the shape and dtype of `like`, and finite where it is.

    >>> tensor_fault(torch.zeros(2), torch.zeros(3)), tensor_fault(torch.zeros(3), torch.zeros(3))
    ('is (2), expected (3)', None)
    >>> tensor_fault(torch.tensor([0.0, float("nan")]), torch.zeros(2))
    'holds numbers that are not finite'
    """
    if not isinstance(value, Tensor):
        return f"is of type {type(value).__name__}, expected a tensor"
    dense = value.layout == torch.strided and not value.is_quantized and value.device.type != "meta"
    # In an expanded tensor several elements share memory, so it cannot be written to.
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
