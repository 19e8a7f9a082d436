"""A process with closed streams or strange environment variables: it works, or ends in one line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_run import SMALL, call

from inference import Score, score
from jobs import environment, scoring
from jobs.partial import Partial

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(os.name != "posix", reason="closes streams as a POSIX shell does")
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_a_run_needs_no_standard_stream(closed, dataset, tmp_path):
    flags = " ".join([*SMALL, "--epochs", "1", "--engine", "eager"])
    line = f'"{sys.executable}" "{ROOT / "run.py"}" --dataset "{dataset}" {flags} --out "{tmp_path / "a"}" {closed}'
    assert subprocess.run(line, shell=True, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode == 0
    assert (tmp_path / "a" / "results.json").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("RANK", "x"), ("WORLD_SIZE", "abc"), ("LOCAL_RANK", "-1"), ("TORCHINDUCTOR_CACHE_DIR", "/dev/null/x")],
)
def test_a_variable_that_torch_cannot_use_is_named_before_anything_starts(name, value, tmp_path, monkeypatch):
    monkeypatch.setenv(name, value)
    assert call("--out", tmp_path / "a").startswith(f"error: {name}={value}: ")
    assert not (tmp_path / "a").exists()
    assert call("--help") == 0


def test_a_rank_among_fewer_processes_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "5"), monkeypatch.setenv("WORLD_SIZE", "2")
    assert call().startswith("error: RANK=5: expected a number below WORLD_SIZE=2")


@pytest.mark.parametrize("job", ["sample", "export", "sweep", "reproduce"])
def test_a_job_of_one_process_is_rejected_under_torchrun(job, monkeypatch):
    monkeypatch.setenv("RANK", "1"), monkeypatch.setenv("WORLD_SIZE", "2")
    assert call(job) == f"error: {job}: expected one process, got 2: start it with python, not torchrun"


@pytest.mark.parametrize(
    ("text", "threads"), [("4", 4), ("4,2", 4), (" 3 ", 3), ("0", None), ("-3", None), ("many", None), ("", None)]
)
def test_threads_are_a_number_or_not_given(text, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert environment.threads() == threads


# --- a damaged file of half a scoring


@pytest.fixture
def pair():
    from assemble import assemble

    torch.manual_seed(0)
    return assemble(hidden=(4,), latent=2, shape=(1, 2, 2))


def written(path, pair, x):
    partial = Partial(path, {})
    score(*pair, x, 30, rows=15, keep=partial.add)  # blocks of 4 images
    partial.write()
    return dict(np.load(path))


DAMAGED = {
    "curve": lambda a: a[:-1],
    "elbo": lambda a: a[:-1],
    "ess": lambda a: a[:, None],
    "pareto_k": lambda a: a.astype(np.float32),
    "log_likelihood": lambda a: np.array(["a"] * len(a)),
    "counts": lambda a: np.append(a, 3),
    "samples": lambda a: 10 * a,
    "log_likelihood of NaN": lambda a: a * np.nan,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_of_half_a_scoring_counts_for_nothing(name, pair, tmp_path):
    path, x = tmp_path / "partial.npz", torch.rand(10, 1, 2, 2).round()
    arrays = written(path, pair, x)
    assert sum(map(len, Partial(path, {}).load())) == 10
    array = name.partition(" ")[0]
    np.savez(path, **(arrays | {array: DAMAGED[name](arrays[array])}))
    assert Partial(path, {}).load() == []


def test_blocks_of_another_version_are_scored_again(pair, tmp_path):
    path, x = tmp_path / "partial.npz", torch.rand(10, 1, 2, 2).round()
    written(path, pair, x)
    result = scoring.scored(*pair, x, 30, 0, partial=Partial(path, {}))  # as one block
    assert isinstance(result, Score) and torch.equal(result.elbo, score(*pair, x, 30).elbo)
