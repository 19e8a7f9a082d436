"""The acceptance command on a CPU, and that its checks see what they are for."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu_acceptance, gpu_acceptance_engines, gpu_acceptance_scores, handmade
from benchmarks.gpu_acceptance_programs import COMPILED, PROGRAMS, SCORED, SMALL, SameNoise, Settings, default_dtype
from benchmarks.gpu_acceptance_rows import Rows, Skip, Task
from benchmarks.handmade import captured_step, handmade_step
from vampyro import data
from vampyro.data import ImageSet, static_mnist
from vampyro.distributions import gemm
from vampyro.programs import compile as staged
from vampyro.training.engines.eager import EagerStep

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Blobs of 28 × 28 bits as `--pack` writes them."""
    path = tmp_path_factory.mktemp("packed") / "bits.npz"
    random = np.random.default_rng(0)
    counts = {"train": 200, "valid": 60, "test": 60}
    np.savez_compressed(path, **{split: random.random((n, 28, 28)) < 0.2 for split, n in counts.items()})
    return path


@pytest.fixture
def settings(packed, tmp_path):
    return Settings(CPU, True, data.load(packed), packed, tmp_path)


def test_the_command_passes_on_a_cpu(packed, tmp_path, monkeypatch, capsys):
    """Without the compiler, which takes minutes: what it is given runs as it was traced."""
    monkeypatch.setattr(staged, "compile_graph", lambda graph, inputs: graph)
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    file = tmp_path / "results.json"
    words = ["--data", str(packed), "--device", "cpu", "--small", "--json", str(file), "--minutes", "60"]
    assert gpu_acceptance.main(words) == 0
    results = json.loads(file.read_text())
    rows = {row["name"]: row for row in results["rows"]}
    assert len(rows) == len(results["rows"]) == sum(results["counts"].values())
    printed = capsys.readouterr().out
    for row in rows.values():
        assert row["status"] in ("passed", "skipped", "measured"), row
        assert row["value"] and row["proves"].endswith(".") and row["traceback"] is None
        assert row["status"] != "skipped" or "CUDA" in row["value"] or "torch before 2.9" in row["value"]
        assert f"| {row['status']} | {row['name']} | {row['value']} |" in printed
    assert results["counts"]["passed"] >= 25 and results["counts"]["measured"] == 7
    assert rows["eager gradients · standard"]["status"] == rows["resume · eager"]["status"] == "passed"
    assert rows["step · vamp:500"]["details"]["missing"] == {}
    assert results["device"]["kind"] == "cpu" and results["machine"]["torch"] == torch.__version__


def rounded(product):
    """A product of float32 factors cut to 10 bits, as TF32 has them."""

    def cut(tensor):
        if tensor.dtype != torch.float32:
            return tensor
        short = (tensor.detach().contiguous().view(torch.int32) & -8192).view(torch.float32)
        return tensor + (short - tensor.detach())  # with the gradient of the whole factor

    return lambda x, weight, bias=None: product(cut(x), cut(weight), bias)


def test_rounded_products_fail_the_checks(settings, monkeypatch):
    checks = [
        lambda: gpu_acceptance_engines.eager_gradients(settings, "standard"),
        lambda: gpu_acceptance_scores.scores(settings, "standard"),
    ]
    assert [check()[2] for check in checks] == [True, True]
    monkeypatch.setattr(torch.nn.functional, "linear", rounded(torch.nn.functional.linear))
    assert [check()[2] for check in checks] == [False, False]


def test_an_engine_with_other_gradients_fails_the_checks(settings, monkeypatch):
    monkeypatch.setattr(staged, "compile_graph", lambda graph, inputs: graph)
    assert gpu_acceptance_engines.compiled(settings, "standard")[2]
    assert gpu_acceptance_engines.same_training(settings, "standard", "svi")[2]
    step = EagerStep.backward

    def wrong(update, x):
        loss = step(update, x)
        next(iter(update.parameters.values())).grad.mul_(-1)
        return loss

    monkeypatch.setattr(EagerStep, "backward", wrong)
    assert not gpu_acceptance_engines.compiled(settings, "standard")[2]
    assert not gpu_acceptance_engines.same_training(settings, "standard", "svi")[2]


def test_scoring_that_does_not_halve_its_rows_fails_the_check(settings, monkeypatch):
    monkeypatch.setattr("vampyro.likelihood.importance.is_out_of_memory", lambda error: False)
    with pytest.raises(torch.OutOfMemoryError):
        gpu_acceptance_scores.out_of_memory(settings)


def test_noise_is_the_same_in_every_precision():
    draws = []
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(3)
        with SameNoise(), default_dtype(dtype):
            draw = [torch.randn(3), torch.rand(2, 2), torch.rand_like(torch.ones(2)), torch.empty(4).normal_()]
            draw += [torch.bernoulli(torch.full((9,), 0.5)), torch.distributions.Normal(0.0, torch.ones(2)).rsample()]
        assert all(tensor.dtype == dtype for tensor in draw)
        draws.append(torch.cat([tensor.flatten().double() for tensor in draw]))
    assert torch.equal(*draws)


def test_the_command_imports_no_package_that_a_gpu_image_may_lack(packed, tmp_path):
    missing = ["beartype", "joblib", "mlxtend", "pooch", "requests", "scipy", "sklearn", "torchvision"]
    code = (
        "import sys\n"
        f"sys.modules |= dict.fromkeys({missing})\n"  # importing one of them raises
        "from benchmarks import gpu_acceptance\n"
        "sys.exit(gpu_acceptance.main(sys.argv[1:]))\n"
    )
    words = [
        "--data",
        packed,
        "--device",
        "cpu",
        "--small",
        "--json",
        tmp_path / "rows.json",
        "--only",
        "run.py · auto",
    ]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_name_of_a_program_is_one():
    assert {*SMALL, *SCORED, *COMPILED} <= PROGRAMS.keys()


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "matmul"), reason="torch before 2.9 has no such settings")
@pytest.mark.parametrize("how", gpu_acceptance_scores.TF32_SETTINGS)
def test_each_way_to_allow_tf32_is_noticed_and_undone(how):
    settings = [torch.backends, torch.backends.mkldnn.matmul, torch.backends.cuda.matmul]
    before = [setting.fp32_precision for setting in settings], torch.get_float32_matmul_precision()
    assert gemm.whole("cuda")
    with gpu_acceptance_scores.tf32(how):
        assert not gemm.whole("cuda")
    assert gemm.whole("cuda")
    assert ([setting.fp32_precision for setting in settings], torch.get_float32_matmul_precision()) == before


def test_no_row_stops_the_others_and_each_is_written_at_once(tmp_path, capsys):
    path = tmp_path / "rows.json"
    seen = []

    def crash():
        seen.append([row["name"] for row in json.loads(path.read_text())["rows"]])
        raise ZeroDivisionError("by | zero")

    def skip():
        raise Skip("needs a CUDA device")

    rows = Rows(path, minutes=1.0, header={})
    rows.run(
        iter(
            [
                Task("good", "Good.", lambda: ("1", "1", True, {"a": 1})),
                Task("crashed", "Crashes.", crash),
                Task("slow", "Slow.", lambda: time.sleep(30), most=0.1),
                Task("skipped", "Skips.", skip),
                Task("late", "Late.", lambda: ("1", "1", True, {}), seconds=61),
                Task("kept", "Kept for others.", lambda: ("1", "1", True, {}), seconds=5),
                Task("wrong", "Wrong.", lambda: ("2", "1", False, {})),
            ]
        )
    )
    rows.run(iter([Task("reserved", "Reserved.", lambda: ("1", "1", True, {}))]), reserve=58)
    found = {row["name"]: row for row in json.loads(path.read_text())["rows"]}
    assert seen == [["good"]]
    assert {name: row["status"] for name, row in found.items()} == {
        "good": "passed",
        "crashed": "failed",
        "slow": "failed",
        "skipped": "skipped",
        "late": "skipped",
        "kept": "passed",
        "wrong": "failed",
        "reserved": "skipped",
    }
    assert "ZeroDivisionError" in found["crashed"]["traceback"] and found["crashed"]["value"].endswith("by / zero")
    assert "stopped after 0" in found["slow"]["value"] and found["slow"]["seconds"] < 5
    assert "needs 61 s" in found["late"]["value"]
    assert "3 failed" in rows.summary() and "failed: wrong: 2" in rows.summary()


def test_static_mnist_is_packed_as_it_is(tmp_path, monkeypatch, capsys):
    bits = torch.randint(2, (9, 1, 28, 28), dtype=torch.uint8) * 255
    source = ImageSet("static-mnist", train=bits, valid=bits[:4], test=bits[5:], binarize="fixed")
    monkeypatch.setattr(static_mnist, "load", lambda root: source)
    file = tmp_path / "packed.npz"
    assert gpu_acceptance.main(["--pack", str(tmp_path), "--data", str(file)]) == 0
    packed = data.load(file)
    assert packed.binarize == "fixed"
    assert all(torch.equal(getattr(packed, split), getattr(source, split)) for split in ("train", "valid", "test"))


def test_what_is_missing_is_said_before_any_work(packed, tmp_path, monkeypatch):
    assert "--data" in gpu_acceptance.main(["--data", str(tmp_path / "none.npz"), "--device", "cpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device cpu" in gpu_acceptance.main(["--data", str(packed)])


@pytest.mark.parametrize("components", [0, 4])
def test_the_step_captured_by_hand_is_the_step_by_hand(components, monkeypatch):
    """Without the capture: the gather and the optimiser are those of the other step."""
    monkeypatch.setattr(handmade, "recorded", lambda body: body)
    images = torch.randint(2, (30, 1, 28, 28), dtype=torch.uint8) * 255
    losses = []
    for captured in (False, True):
        torch.manual_seed(0)
        step = captured_step(images, components, batch=5) if captured else handmade_step(components)
        for number in range(4):
            torch.manual_seed(number)
            indices = torch.randint(30, (5,))
            loss = step(indices if captured else images[indices].float() / 255)
        losses.append(loss)
    assert torch.equal(*losses)
