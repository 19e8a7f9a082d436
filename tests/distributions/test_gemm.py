"""The library for matrix products: never fewer bits, and nothing left changed."""

import time
from pathlib import Path

import pytest
import torch

from vampyro.distributions import DiagonalNormal, Mixture, gemm

sets_precision = pytest.mark.skipif(
    not hasattr(torch.backends.mkldnn, "matmul"), reason="torch before 2.9 has no precision of a library"
)


@pytest.fixture
def mode():
    return lambda: torch.backends.mkldnn.matmul.fp32_precision


@sets_precision
@pytest.mark.parametrize("library", ["blas", "onednn"])
def test_products_are_whole_and_the_setting_comes_back(library, mode):
    before = mode()
    a, b = torch.randn(50, 400), torch.randn(400, 70)
    with pytest.raises(KeyError), gemm.using(library) as name:
        assert name in ("blas", library)
        assert gemm.whole()
        error = ((a @ b).double() - a.double() @ b.double()).norm() / (a.double() @ b.double()).norm()
        assert error < 1e-6
        raise KeyError
    assert mode() == before


@sets_precision
def test_convolutions_of_a_gpu_keep_all_bits_inside_and_are_as_before_outside():
    before = torch.backends.cudnn.allow_tf32
    with gemm.using("blas"):
        assert torch.backends.cudnn.conv.fp32_precision == "ieee" and not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_where_onednn_rounds_it_is_not_used(monkeypatch):
    monkeypatch.setattr(gemm, "_error", {"bf16": 1e-3, "tf32": 1e-3}.get)
    with gemm.using("onednn") as name:
        assert name == "blas"
    assert gemm.choose("cpu") == "blas"
    with pytest.raises(ValueError, match="rounds"):
        gemm.choose("cpu", "onednn")
    with gemm._mode("bf16"):
        assert not gemm.whole()


@pytest.fixture
def exact_onednn(monkeypatch):
    monkeypatch.setattr(gemm, "_onednn_is_whole", lambda: True)


@pytest.mark.parametrize(("maker", "library"), [("AuthenticAMD", "onednn"), ("GenuineIntel", "blas"), ("", "blas")])
def test_the_library_follows_from_the_processor_and_no_clock(maker, library, exact_onednn, monkeypatch):
    def no_clock():
        raise AssertionError("looked at a clock")

    for clock in ("perf_counter", "monotonic", "process_time", "time"):
        monkeypatch.setattr(time, clock, no_clock)
    monkeypatch.setattr(gemm, "_processor_maker", lambda: maker)
    assert gemm.choose("cpu") == library
    assert [gemm.choose("cpu", request) for request in ("blas", "onednn")] == ["blas", "onednn"]
    assert gemm.choose("cuda") == "blas"
    for device, request in [("cuda", "onednn"), ("cpu", "mkl"), ("cpu", "measure")]:
        with pytest.raises(ValueError, match="onednn"):
            gemm.choose(device, request)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="Linux says it in /proc/cpuinfo")
def test_the_processors_maker_is_a_word_of_its_own_description():
    maker = gemm._processor_maker()
    assert maker and maker in Path("/proc/cpuinfo").read_text()


def test_rounded_factors_would_be_noticed():
    """What the probe compares: the error of a product of factors in bf16, and of a whole one."""
    a, b = torch.randn(100, 784), torch.randn(784, 600)
    truth = a.double() @ b.double()
    rounded = a.bfloat16().double() @ b.bfloat16().double()
    assert (rounded - truth).norm() / truth.norm() > 1e-3
    assert gemm._error("ieee") < 1e-6


def test_a_mixture_is_as_exact_with_either_library():
    mixture = Mixture(DiagonalNormal(torch.randn(500, 40), torch.rand(500, 40) + 0.3))
    z = torch.randn(100, 40)
    truth = mixture.log_prob(z.double())
    errors = {}
    for library in ("blas", "onednn"):
        with gemm.using(library):
            errors[library] = (mixture.log_prob(z).double() - truth).abs().max()
    assert errors["onednn"] < 4 * errors["blas"] < 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tf32_is_not_whole():
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        assert not gemm.whole("cuda")
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        assert gemm.whole("cuda")
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


@sets_precision
@pytest.mark.parametrize("word", ["highest", "high", "medium"])
@pytest.mark.parametrize("library", ["blas", "onednn"])
def test_torchs_older_word_for_precision_can_be_asked_for_inside_and_is_as_before_outside(library, word, mode):
    start, cuda = mode(), torch.backends.cuda.matmul.fp32_precision
    torch.set_float32_matmul_precision(word)
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    try:
        before = mode()
        with gemm.using(library) as name:
            inside = torch.get_float32_matmul_precision()
            assert inside == ("medium" if name == "onednn" else word)
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert (torch.get_float32_matmul_precision(), mode()) == (word, before)
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.mkldnn.matmul.fp32_precision, torch.backends.cuda.matmul.fp32_precision = start, cuda
