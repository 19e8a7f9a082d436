"""The library for float32 matrix products on a CPU, chosen by a fixed rule, and whether products keep all bits.

torch multiplies on a CPU by its BLAS, usually MKL. Where it is allowed to round the factors, it uses oneDNN instead.
On a processor without instructions for rounded factors oneDNN keeps all bits, and on some of those it is faster.
`choose` decides by the processor alone, so the same machine always has the same last digits.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch

# Milliseconds of all matrix products of a vamp:500 training step, by the processor's maker: docs/speed.md, the rows
# "products". Another AMD machine had equal times. A maker without a row gets torch's BLAS.
COSTS = {"AuthenticAMD": {"blas": 19.17, "onednn": 16.78}}
WHOLE = ("none", "ieee")  # torch's precisions that keep 24 bits
FEWER_BITS = {"bf16": "medium", "tf32": "high"}  # and its older words for those that do not


def whole(device: torch.device | str = "cpu") -> bool:
    """Whether float32 products on `device` keep all their bits, as torch is set at this moment.

    >>> whole()
    True
    """
    if torch.device(device).type == "cuda":
        return torch.backends.cuda.matmul.fp32_precision in WHOLE
    mode = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    return mode in WHOLE or _error(mode) < 1e-6


@contextmanager
def using(library: str) -> Iterator[str]:
    """Inside, float32 products on a CPU come from "blas", or from "onednn" where it keeps products whole; a GPU's
    convolutions are whole. Yields the library's name.

    >>> with using("blas") as library: library
    'blas'
    """
    if library == "onednn" and not _onednn_is_whole():
        library = "blas"
    with _mode("bf16" if library == "onednn" else "ieee"):
        yield library


def choose(device: torch.device | str, request: str = "auto") -> str:
    """Return the library for products on `device`: "onednn" or "blas", as requested or by the table COSTS.

    A GPU has its own library; "blas" does not change it.

    Raises:
        ValueError: for "onednn" on a GPU, or where oneDNN rounds factors; for another request.

    >>> choose("cpu", "blas"), choose("cpu") in ("blas", "onednn")
    ('blas', True)
    """
    on_cpu = torch.device(device).type == "cpu"
    if request == "onednn":
        if not on_cpu:
            raise ValueError(f"onednn multiplies on a CPU, and this is {torch.device(device).type}")
        if not _onednn_is_whole():
            raise ValueError("onednn rounds the factors of float32 products on this processor")
        return "onednn"
    if request == "blas" or not on_cpu:
        return "blas"
    if request != "auto":
        raise ValueError(f"expected auto, blas or onednn, got {request!r}")
    costs = COSTS.get(_processor_maker(), {"blas": 0.0})
    return min(costs, key=costs.__getitem__) if _onednn_is_whole() else "blas"


def _processor_maker() -> str:
    """The processor's vendor as the processor reports it, "AuthenticAMD" for example; "" where it is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor().rpartition(",")[2].strip()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


@contextmanager
def _mode(mode: str) -> Iterator[None]:
    """Inside, a CPU's products are in that mode and a GPU's convolutions whole; its other products do not change.

    torch has two ways to set the rounding. To read the older one, a word for all devices or all of cuDNN, raises where
    the newer one differs. So both are set.
    """
    cuda, cudnn = torch.backends.cuda.matmul, cast(Any, torch.backends.cudnn)
    settings: list[Any] = [torch.backends.mkldnn.matmul, cuda, cudnn.conv, cudnn.rnn]  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in settings]
    word, rounds = _older(torch.get_float32_matmul_precision), _older(lambda: cudnn.allow_tf32)

    def set_all(word, rounds, precisions):
        if word is not None:
            torch.set_float32_matmul_precision(word)
        if rounds is not None:
            cudnn.allow_tf32 = rounds
        for setting, precision in zip(settings, precisions):
            setting.fp32_precision = precision

    try:
        set_all(word and FEWER_BITS.get(mode, word), rounds and False, [mode, before[1], "ieee", "ieee"])
        yield
    finally:
        set_all(word, rounds, before)


def _older(read):
    """The older setting, or None where it and the newer one already differ."""
    try:
        return read()
    except RuntimeError:
        return None


@cache
def _error(mode):
    """The relative error of a product: 4e-7 where it is whole, 1e-3 where factors are rounded."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(100, 784, generator=generator), torch.randn(784, 600, generator=generator)
    truth = a.double() @ b.double()
    with _mode(mode), torch.autocast("cpu", enabled=False):
        return (((a @ b).double() - truth).norm() / truth.norm()).item()


def _onednn_is_whole():
    return torch.backends.mkldnn.is_available() and _error("bf16") < 1e-6
