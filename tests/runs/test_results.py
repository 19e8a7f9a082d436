"""Results: what a run's folder holds, finished, unfinished and damaged."""

import json
import shutil

import pytest

from tests.cli.test_train import call, train
from vampyro.runs.folder import Folder
from vampyro.runs.results import FolderError, Results


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "run"
    assert train(dataset, folder, "--epochs", 2) is None
    assert call("score", folder, "--images", 3, "--device", "cpu") is None
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def test_a_finished_run_is_read_back(finished):
    results, content = Results.read(finished), json.loads((finished / "results.json").read_text())
    assert results.finished and results.test == content["test"] and results.fit == content["fit"]
    assert [line["epoch"] for line in results.epochs] == [1, 2]
    assert results.best_epoch["elbo"] == content["fit"]["best_validation_elbo"]
    assert dict(results.config) == results.scored_config == content["config"]
    assert results.measures() == content["measures"]["own"] and results.measures("aggregate") == {}
    assert results.scores()["log_likelihood"].mean() == pytest.approx(results.test["log_likelihood"])


def test_a_run_in_training_has_epochs_and_no_test_results(run):
    (run / "results.json").unlink()
    results = Results.read(run)
    assert not results.finished and len(results.epochs) == 2 and results.measures() == {} and results.remarks == []
    with pytest.raises(FolderError, match=f"is not finished: resume it with --resume {run}"):
        results.test


@pytest.mark.parametrize(
    ("file", "contents"),
    [
        ("config.json", ["", "[1]", "[" * 100_000, None]),
        ("metrics.jsonl", ["{", "[1]\n", '{"epoch": "x"}\n']),
        ("results.json", ["", "[]", "7", '{"test": {}}', '{"test": {}, "fit": {}}', '{"measures": {"own": 3}}']),
        ("results.json", ['{"measures": {"own": {"elbo": {}}}}', '{"remarks": 3}']),
    ],
)
def test_a_damaged_folder_is_one_kind_of_error_that_names_the_file(file, contents, run):
    for content in contents:
        (run / file).unlink() if content is None else (run / file).write_text(content)
        with pytest.raises(FolderError, match=file):
            Results.read(run)


def test_scores_that_cannot_be_read_are_named(run):
    (run / "scores.npz").write_bytes(b"PK")
    with pytest.raises(FolderError, match="scores.npz cannot be read"):
        Results.read(run).scores()


def test_measures_of_a_checkpoint_are_found_and_damage_is_none(run):
    digest = Results.read(run).measures()["likelihood"]["settings"]["checkpoint"]
    assert set(Folder(run).measures(digest)["own"]) == {"likelihood"} and Folder(run).measures("other") == {}
    (run / "results.json").write_text("[" * 100_000)
    assert Folder(run).measures(digest) == {}
