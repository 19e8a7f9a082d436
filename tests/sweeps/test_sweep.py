"""Sweeps: what varies is read before any work, every run is an ordinary one, and the table says what they found."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from tests.cli.test_train import ROOT, assert_same, call, state
from vampyro import cli as run
from vampyro.runs import training_run as training
from vampyro.runs.folder import Folder
from vampyro.runs.signals import Terminated
from vampyro.sweeps import grid as cells
from vampyro.sweeps import runner as many
from vampyro.sweeps import sweep as campaign
from vampyro.sweeps import table
from vampyro.sweeps.table import differences

SMALL = ["--hidden", "8", "--batch-size", "50", "--samples", "10", "--device", "cpu", "--engine", "eager"]


@pytest.fixture
def here(monkeypatch):
    """Runs in this process, which is quicker; what they print goes to their log as ever. A list of command lines."""
    began = []

    def launch(argv, log, threads=None, cwd=None):
        began.append(argv)
        with log.open("a") as file, redirect_stdout(file):
            status = call(*argv)
            print(status or "", file=file)
        return status if isinstance(status, int) else 0 if status is None else 1  # as sys.exit makes of it

    monkeypatch.setattr(many, "launch", launch)
    return began


def sweep(dataset, out, *more, epochs=2):
    return call("sweep", "--dataset", dataset, *SMALL, "--epochs", epochs, "--out", out, *more)


BAD = {
    "unknown flag": (["--vary", "latnet=1,2"], ["'--latnet'", "did you mean '--latent'"]),
    "bad last value": (["--vary", "latent=1,2,x"], ["--latent", "'x'"]),
    "bad spec": (["--vary", "prior=mog:5,vmap"], ["unknown prior 'vmap'", "did you mean 'vamp'?"]),
    "no values": (["--vary", "latent"], ["--vary 'latent'", "NAME=VALUE"]),
    "empty value": (["--vary", "latent=1,,2"], ["a value is empty"]),
    "twice": (["--vary", "latent=1,1"], ["twice"]),
    "list without slashes": (["--vary", "hidden=300,300"], ["twice", "hidden=300,300/500,500"]),
    "axis twice": (["--vary", "latent=1", "--vary", "latent=2"], ["given twice"]),
    "varied and given": (["--vary", "latent=1,2", "--latent", "3"], ["--latent", "given and varied"]),
    "seed": (["--vary", "seed=1,2"], ["--seeds"]),
    "out": (["--vary", "out=a,b"], ["folder of its own"]),
    "resume": (["--resume", "somewhere"], ["--resume", "same command"]),
    "unknown data": (["--vary", "dataset=mnist5k,mnits"], ["--dataset: no data set 'mnits'", "did you mean 'mnist'"]),
    "parts that do not fit": (["--vary", "latent=3/3,2"], ["latent 3,2", "two-level"]),
    "too many images": (["--vary", "prior=vamp:5:from-data,vamp:101:from-data"], ["101", "100"]),
    "likelihood": (["--vary", "likelihood=bernoulli,logistic", "--binarize", "none"], ["bernoulli", "grey"]),
    "help": (["--vary", "help=1"], ["--vary 'help=1'", "unknown flag '--help'"]),
    "no other run": (["--vary", "data-dir=/x,/y"], ["data-dir is not varied", "would not make another run"]),
    "no other engine": (["--vary", "engine=eager,svi"], ["engine is not varied"]),
    "no other library": (["--vary", "gemm=blas,onednn"], ["gemm is not varied"]),
    "one run in two spellings": (["--vary", "latent=2,02"], ["'latent 2' and 'latent 02' are the same run"]),
    "too many seeds": (["--seeds", "1000000000"], ["1000000000 runs are more than 10000", "--seeds"]),
    "too many values": (
        [word for name in ("beta", "latent") for word in ("--vary", f"{name}=" + ",".join(map(str, range(1, 150))))],
        ["22201 runs are more than 10000", "--vary"],
    ),
    "seeds beyond the last": (["--seed", str(2**63 - 1), "--seeds", "2"], ["--seed", str(2**63 - 1)]),
    "threads": (["--vary", "latent=1", "--threads", "1000000"], ["--threads", "at most 1024"]),
    "no scheduler": (["--vary", "latent=1", "--jobs", "0"], ["--jobs"]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_before_any_run_begins(case, dataset, tmp_path, capsys, here):
    argv, fragments = BAD[case]
    data = [] if "dataset" in argv[1] else ["--dataset", dataset]
    status = call("sweep", *data, *SMALL, "--out", tmp_path / "out", *argv)
    message = status if isinstance(status, str) else capsys.readouterr().err
    assert message.startswith("error: ") and len(message.strip().splitlines()) == 1
    for fragment in fragments:
        assert fragment in message
    assert here == [] and not (tmp_path / "out").exists()


def test_the_product_and_its_names():
    axes = [cells.vary("hidden=300,300/500"), cells.vary("prior=mog:1,mog:5"), cells.vary("beta=0.5,1")]
    made = cells.cells(axes, {"epochs": 7})
    assert [tuple(cell.labels.values()) for cell in made] == [
        (h, p, b) for h in ("300,300", "500") for p in ("mog:1", "mog:5") for b in ("0.5", "1")
    ]
    first = made[0]
    assert first.name == "hidden 300,300 · prior mog:1 · beta 0.5" and first.label == "300,300 / mog:1 / 0.5"
    assert first.folder(Path("out"), 2) == Path("out/hidden-300,300_prior-mog-1_beta-0.5_seed2")
    assert first.config["hidden"] == [300, 300] and first.config["beta"] == 0.5 and first.config["epochs"] == 7
    assert first.words(3) == [
        *("--epochs", "7", "--hidden", "300,300", "--prior", "mog:1", "--beta", "0.5", "--seed", "3")
    ]  # fmt: skip
    assert len({cell.folder(Path(), 0) for cell in made}) == 8


def test_conditions_change_the_cells_they_name():
    axes = [cells.vary("prior=standard,vamp:5"), cells.vary("latent=2,3")]
    made = cells.cells(axes, {}, [({"prior": "vamp:5", "latent": "3"}, {"prior": "vamp:9"})])
    assert [cell.config["prior"] for cell in made] == ["standard", "standard", "vamp:5", "vamp:9"]


def test_folders_that_would_be_one_are_refused():
    with pytest.raises(cells.SweepError, match="share a folder"):
        cells.cells([cells.vary("dataset=a/x.npz,a-x.npz")], {})


def test_every_run_is_the_ordinary_one_and_finished_ones_are_left_alone(dataset, tmp_path, here, capsys):
    argv = ["--vary", "latent=2,3", "--seeds", 2]
    assert sweep(dataset, tmp_path / "out", *argv) is None
    printed = capsys.readouterr().out
    assert "4 runs in" in printed and "[4/4] latent 3 · seed 1: log p̂ -" in printed
    assert (
        call("--dataset", dataset, *SMALL, "--epochs", 2, "--latent", 3, "--seed", 1, "--out", tmp_path / "a") is None
    )
    assert_same(state(tmp_path / "a"), state(tmp_path / "out" / "latent-3_seed1"))
    assert "epoch    2" in (tmp_path / "out" / "latent-3_seed1" / "log.txt").read_text()

    count = len(here)
    assert sweep(dataset, tmp_path / "out", *argv) is None and len(here) == count
    assert sweep(dataset, tmp_path / "out", "--vary", "latent=2,3,4", epochs=2) is None
    assert len(here) == count + 1  # only what was not there

    status = sweep(dataset, tmp_path / "out", *argv, epochs=3)
    assert "holds another run (--epochs 2)" in status and "--out" in status and len(here) == count + 1


def test_the_same_command_may_ask_for_tensorboard_too(dataset, tmp_path, here, monkeypatch):
    monkeypatch.setattr(training, "require", lambda *_: None)  # the package is an optional one
    monkeypatch.setattr(training, "Board", Mock())
    argv = ["--vary", "latent=2,3", "--tensorboard"]
    assert sweep(dataset, tmp_path / "out", *argv[:2], epochs=1) is None and len(here) == 2
    assert sweep(dataset, tmp_path / "out", *argv, epochs=1) is None and len(here) == 2  # finished already
    (tmp_path / "out" / "latent-2_seed0" / "results.json").unlink()
    assert sweep(dataset, tmp_path / "out", *argv, epochs=1) is None
    assert here[2][0] == "--resume" and "--tensorboard" in here[2] and len(here) == 3
    assert sweep(dataset, tmp_path / "new", *argv, epochs=1) is None and "--tensorboard" in here[3]


def test_the_table_has_the_figures_of_the_runs(dataset, tmp_path, here, capsys):
    assert sweep(dataset, tmp_path / "out", "--vary", "latent=2,3", "--seeds", 2) is None
    results = {
        latent: [
            json.loads((tmp_path / "out" / f"latent-{latent}_seed{seed}" / "results.json").read_text())["test"]
            for seed in range(2)
        ]
        for latent in (2, 3)
    }
    rows = list(csv.DictReader((tmp_path / "out" / "table.csv").open()))
    assert [row["latent"] for row in rows] == ["2", "3"] and [row["seeds"] for row in rows] == ["2", "2"]
    for row, runs in zip(rows, results.values()):
        for metric in ("log_likelihood", "elbo"):
            values = np.array([test[metric] for test in runs])
            assert float(row[metric]) == pytest.approx(values.mean(), rel=1e-12)
            assert float(row[f"{metric}_sd"]) == pytest.approx(values.std(ddof=1), rel=1e-9)
            assert float(row[f"{metric}_se_seeds"]) == pytest.approx(values.std(ddof=1) / 2**0.5, rel=1e-9)
        error = np.mean([test["standard_error"] for test in runs])
        assert float(row["log_likelihood_se_images"]) == pytest.approx(error, rel=1e-12)
    scores = [
        np.mean(
            [np.load(tmp_path / "out" / f"latent-{n}_seed{s}" / "scores.npz")["log_likelihood"] for s in range(2)], 0
        )
        for n in (2, 3)
    ]
    apart = scores[1] - scores[0]
    over_seeds = [np.var([test["log_likelihood"] for test in runs], ddof=1) / 2 for runs in results.values()]
    expected = f"{apart.mean():+.2f} ± {(apart.var(ddof=1) / 25 + sum(over_seeds)) ** 0.5:.2f}"  # and over 25 images
    assert expected in (tmp_path / "out" / "table.md").read_text() and expected in capsys.readouterr().out
    assert (tmp_path / "out" / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_sweep_in_which_nothing_varies_is_refused(dataset, tmp_path):
    assert "nothing varies: use --vary" in sweep(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_sweep_over_beta_draws_rate_and_distortion(dataset, tmp_path, here):
    assert sweep(dataset, tmp_path / "out", "--vary", "beta=0.5,1", "--measures", "elbo") is None
    row = list(csv.DictReader((tmp_path / "out" / "table.csv").open()))[0]
    elbo = json.loads((tmp_path / "out" / "beta-0.5_seed0" / "results.json").read_text())["measures"]["own"]["elbo"]
    assert float(row["rate"]) == elbo["rate"] and float(row["distortion"]) == elbo["distortion"]
    assert float(row["active_units"]) == elbo["active_units"]["z"]
    assert (tmp_path / "out" / "rate_distortion.png").exists()
    count = len(here)
    assert sweep(dataset, tmp_path / "out", "--vary", "beta=0.5,1", "--measures", "elbo") is None
    assert len(here) == count


def test_without_a_rate_there_is_no_such_curve():
    """Auto-encoders: β weighs no KL of theirs, and their epochs have none."""

    def row(beta, **figures):
        return table.Row({"beta": beta}, 1, {name: table.summarise([value]) for name, value in figures.items()})

    assert campaign.rate_distortion([row("1", reconstruction=-9.0), row("2", reconstruction=-8.0)]) is None
    assert campaign.rate_distortion([row("1", kl=3.0, reconstruction=-9.0), row("2", reconstruction=-8.0)]) is None
    full = [row("1", kl=3.0, reconstruction=-9.0), row("2", kl=2.0, reconstruction=-8.0)]
    assert campaign.rate_distortion(full) is not None


def test_cells_that_differ_in_their_labels_alone_have_images_of_their_own():
    assert (
        campaign.rejected_cells(cells.cells([cells.vary("condition=none,label")], {"hidden": "8", "device": "cpu"}))
        == []
    )


def test_one_that_fails_stops_no_other(dataset, tmp_path, here, monkeypatch, capsys):
    original = run.main

    def main(argv):
        return (
            "error: the roof fell in"
            if "--latent" in argv and argv[argv.index("--latent") + 1] == "3"
            else original(argv)
        )

    monkeypatch.setattr(run, "main", lambda argv: main(argv) if argv[0] != "sweep" else original(argv))
    status = sweep(dataset, tmp_path / "out", "--vary", "latent=2,3,4")
    assert status.startswith("error: 1 not finished") and "latent 3 · seed 0: error: the roof fell in" in status
    assert "log.txt" in status
    assert [row["latent"] for row in csv.DictReader((tmp_path / "out" / "table.csv").open())] == ["2", "4"]
    monkeypatch.undo()


def test_one_that_was_interrupted_goes_on(dataset, tmp_path, here, monkeypatch):
    def interrupted(self, state, metrics):
        save(self, state, metrics)
        if state["epoch"] == 2:
            raise KeyboardInterrupt

    save = Folder.save
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "save", interrupted)
        assert "stopped" in sweep(dataset, tmp_path / "out", "--vary", "latent=2", epochs=4)
    assert not (tmp_path / "out" / "latent-2_seed0" / "results.json").exists()
    assert sweep(dataset, tmp_path / "out", "--vary", "latent=2", epochs=4) is None
    assert here[-1][0] == "--resume"
    assert sweep(dataset, tmp_path / "whole", "--vary", "latent=2", epochs=4) is None
    assert_same(*(state(tmp_path / name / "latent-2_seed0") for name in ("whole", "out")))


@pytest.mark.parametrize("longer", [["--epochs", 3], ["--samples", 20]], ids=lambda words: words[0])
def test_results_from_before_a_run_was_changed_are_not_its_results(longer, dataset, tmp_path, here, monkeypatch):
    words = ["--vary", "latent=2", "--samples", 10]
    assert sweep(dataset, tmp_path / "out", *words) is None
    with monkeypatch.context() as patch:
        patch.setattr(training.Run, "report", Mock(side_effect=KeyboardInterrupt))
        call("--resume", tmp_path / "out" / "latent-2_seed0", *longer)
    here.clear()
    assert sweep(dataset, tmp_path / "out", *words, *longer) is None
    assert [argv[0] for argv in here] == ["--resume"]
    results = json.loads((tmp_path / "out" / "latent-2_seed0" / "results.json").read_text())
    assert results["config"][longer[0].removeprefix("--")] == longer[1]


def test_ctrl_c_ends_the_processes_and_keeps_what_they_had(dataset, tmp_path):
    """Two processes at once, told through the sweep alone; then the same command resumes it."""
    words = ["--dataset", str(dataset), *SMALL, "--out", str(tmp_path / "out"), "--vary", "latent=2,3", "--jobs", "2"]
    command = [sys.executable, str(ROOT / "run.py"), "sweep", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    many_epochs = [*command, "--epochs", "100000", "--cooldown", "0", "--patience", "100000"]
    stopped = subprocess.Popen(
        many_epochs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    folders = [tmp_path / "out" / f"latent-{n}_seed0" for n in (2, 3)]
    until = time.monotonic() + 100
    while not all((folder / "checkpoint.pt").exists() for folder in folders):
        assert time.monotonic() < until and stopped.poll() is None, stopped.communicate()
        time.sleep(0.1)
    stopped.send_signal(signal.SIGINT)
    _, error = stopped.communicate(timeout=60)
    assert stopped.returncode == 130 and "run the same command again" in error and "Traceback" not in error
    for folder in folders:
        assert "resume with" in (folder / "log.txt").read_text()
        before = len((folder / "metrics.jsonl").read_text().splitlines())
        time.sleep(0.3)
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == before > 0  # nobody is at work there
    run_ = many.Run(cells.cells([cells.vary("latent=2")], {"epochs": "100000"})[0], 0, folders[0])
    assert many._training(run_)[:2] == ["--resume", str(folders[0])]


def test_a_folder_that_cannot_be_written_is_named_before_any_run_begins(dataset, tmp_path, here):
    (tmp_path / "file").touch()
    status = sweep(dataset, tmp_path / "file" / "out", "--vary", "latent=2")
    assert status == f"error: cannot write to --out {tmp_path / 'file' / 'out'}: Not a directory" and here == []


def test_a_run_whose_folder_cannot_be_made_stops_no_other(dataset, tmp_path, here):
    (tmp_path / "latent-2_seed0").touch()
    status = sweep(dataset, tmp_path, "--vary", "latent=2,3", epochs=1)
    assert "1 not finished" in status and f"cannot write to {tmp_path / 'latent-2_seed0'}: File exists" in status
    assert (tmp_path / "latent-3_seed0" / "results.json").exists()


def test_a_full_disk_stops_one_run_and_is_said_of_the_table(dataset, tmp_path, here, monkeypatch):
    launch, write, full = many.launch, Folder.write_text, OSError(errno.ENOSPC, "No space left on device")

    def launched(argv, log, *rest):
        if "latent-2" in str(log):
            raise full
        return launch(argv, log, *rest)

    def written(self, name, text):
        if name == "table.md":
            raise full
        write(self, name, text)

    with monkeypatch.context() as patch:
        patch.setattr(many, "launch", launched)
        status = sweep(dataset, tmp_path / "out", "--vary", "latent=2,3", epochs=1)
        assert "1 not finished" in status and "latent 2 · seed 0: [Errno 28] No space left on device (" in status
        patch.setattr(Folder, "write_text", written)
        status = sweep(dataset, tmp_path / "out", "--vary", "latent=3", epochs=1)
        assert status.startswith("error: [Errno 28] No space left on device; finished runs") and "\n" not in status
    assert sweep(dataset, tmp_path / "out", "--vary", "latent=2,3", epochs=1) is None
    assert (tmp_path / "out" / "table.md").exists()


@pytest.mark.parametrize(("stop", "status"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_the_status_of_one_that_was_stopped(stop, status, dataset, tmp_path, here, monkeypatch):
    def stopped(*_):
        raise stop

    monkeypatch.setattr(many, "launch", lambda argv, log, *_: log.write_text("") or status)
    assert "latent 2 · seed 0: stopped (" in sweep(dataset, tmp_path / "out", "--vary", "latent=2")
    monkeypatch.setattr(campaign, "run_all", stopped)
    assert sweep(dataset, tmp_path / "out", "--vary", "latent=2") == status


def test_a_measure_that_is_not_possible_is_said_once_and_the_rest_kept(dataset, tmp_path, here, capsys, monkeypatch):
    monkeypatch.setattr(
        "vampyro.reports.sections.elbo.decompose", Mock(side_effect=ValueError("decompose expects more images"))
    )
    more = ["--vary", "latent=2", "--test-images", 1, "--measures", "likelihood,elbo"]
    assert sweep(dataset, tmp_path / "out", *more) is None
    printed = capsys.readouterr().out
    assert "latent 2 · seed 0: log p̂ -" in printed and "warning: elbo not measured: " in printed
    results = json.loads((tmp_path / "out" / "latent-2_seed0" / "results.json").read_text())
    measured = results["measures"]["own"]
    assert measured["likelihood"]["log_likelihood"] < 0 and measured["elbo"]["not measured"] in printed
    assert f"{results['test']['log_likelihood']:.2f}" in (tmp_path / "out" / "table.md").read_text()

    count = len(here)
    assert sweep(dataset, tmp_path / "out", *more) is None and len(here) == count  # nothing is left to do
    assert call("score", tmp_path / "out" / "latent-2_seed0", "--device", "cpu") is None  # another measure
    again = json.loads((tmp_path / "out" / "latent-2_seed0" / "results.json").read_text())["measures"]["own"]
    assert again["elbo"] == measured["elbo"]


def test_a_measure_that_the_posterior_cannot_be_given_is_no_failure(dataset, tmp_path, here, capsys):
    more = ["--vary", "latent=2", "--posterior", "bernoulli", "--measures", "gaps"]
    assert sweep(dataset, tmp_path / "out", *more) is None
    assert "warning: gaps not measured: " in capsys.readouterr().out and len(here) == 2


def test_a_dry_run_lists_the_runs(dataset, tmp_path, here, capsys):
    assert sweep(dataset, tmp_path / "out", "--vary", "latent=2,3", "--dry-run") is None
    printed = capsys.readouterr().out
    assert "latent 3 · seed 0" in printed and f"2 runs in {tmp_path / 'out'}, 2 to do" in printed
    assert here == [] and not (tmp_path / "out").exists()


def test_the_rest_is_estimated_from_the_runs_that_are_done(tmp_path, monkeypatch, capsys):
    runs = [many.Run(cell, 0, tmp_path) for cell in cells.cells([cells.vary("latent=1,2,3,4,5")], {})]
    outcomes = [many.Outcome(run, 600.0 * (1 + i), "stopped" if i == 3 else None) for i, run in enumerate(runs)]
    metrics = table.RunMetrics({"log_likelihood": -2.0, "elbo": -3.0}, {"log_likelihood": None}, "log p(x)")
    monkeypatch.setattr(table, "metrics_of", lambda folder: metrics)
    monkeypatch.setattr(campaign, "run_all", lambda todo, tell, *_: [tell(outcome) for outcome in outcomes])
    assert campaign.run(runs, [], jobs=2).startswith("1 not finished")
    lines = capsys.readouterr().out.splitlines()
    # two rounds of 10 minutes, two of their mean with 20, one of the three's mean, one again, none
    left = ["about 20 minutes left", "about 30 minutes left", "about 20 minutes left", "about 20 minutes left", "s"]
    assert all(line.endswith(end) for line, end in zip(lines, left, strict=True)) and "left" not in lines[-1]


def test_a_cluster_needs_its_library_and_a_scheduler(dataset, tmp_path, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    status = sweep(dataset, tmp_path / "out", "--vary", "latent=2", "--dask", "tcp://127.0.0.1:1")
    assert status == "error: --dask needs dask.distributed: pip install distributed" and here == []


def test_runs_on_a_cluster(dataset, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        status = sweep(dataset, tmp_path / "out", "--vary", "latent=2,3", "--dask", cluster.scheduler_address)
    assert status is None and (tmp_path / "out" / "table.csv").read_text().count("\n") == 3


def test_likelihoods_of_images_and_of_images_given_labels_are_not_taken_for_one(tmp_path):
    made = cells.cells([cells.vary("condition=none,label"), cells.vary("beta=1,2")], {})
    folders = [[cell.folder(tmp_path, 0)] for cell in made]
    for cell, (folder,) in zip(made, folders):
        kind = "log p(x | y)" if cell.labels["condition"] == "label" else "log p(x)"
        test = {"log_likelihood": -2.0, "elbo": -3.0, "quantity": kind}
        folder.mkdir()
        run = {"shape": [1, 2, 2], "sha256": {}, "classes": 10 if cell.config.condition == "label" else None}
        (folder / "config.json").write_text(json.dumps(dict(cell.config) | run))
        (folder / "metrics.jsonl").write_text("")
        (folder / "results.json").write_text(
            json.dumps({"test": test, "fit": {"epochs": 1, "best_epoch": 1, "seconds": 60}})
        )
        values = np.arange(3.0) + float(cell.labels["beta"])
        np.savez(folder / "scores.npz", log_likelihood=values, elbo=values, index=np.arange(3))

    def header(some):
        return table.markdown(table.rows(made[some], folders[some])).splitlines()[0]

    given, not_given, both = slice(2, 4), slice(2), slice(4)
    assert "| log p̂(x), nats |" in header(not_given) and "| log p̂(x | y), nats |" in header(given)
    assert "| log p̂(x) or log p̂(x | y), nats |" in header(both)
    assert differences(made[given], folders[given]) == [{"label / 1": "0", "label / 2": "+1.00 ± 0.00"}]
    apart = [{f"{condition} / 1": "0", f"{condition} / 2": "+1.00 ± 0.00"} for condition in ("none", "label")]
    assert differences(made[both], folders[both]) == apart
    assert differences(made[1:3], folders[1:3]) == []  # one of each
    assert differences(made[:1], [folders[0] + folders[2]]) == []  # and one whose seeds are not of the same


DAMAGED = {
    "results.json": [b"{", b"null", b'{"test": 3, "config": 4}', b'{"test": {"log_likelihood": {}}, "fit": []}'],
    "scores.npz": [b"", b"PK\x03\x04 cut off", b"text"],
    "metrics.jsonl": [b"[]\n", b"\xff"],
}


@pytest.mark.parametrize("name, content", [(name, content) for name in DAMAGED for content in DAMAGED[name]])
def test_a_run_with_a_damaged_file_is_not_finished(name, content, one_run):
    run, whole = one_run
    assert many.finished(run)
    (run.folder / name).write_bytes(content)
    assert not many.finished(run) and table.metrics_of(run.folder) is None
    assert many.read_results(run) is None or name == "scores.npz"
    assert differences([run.cell], [[run.folder]]) == []
    (run.folder / name).write_bytes(whole[name])
    assert many.finished(run)


@pytest.fixture(scope="module")
def one_run(dataset, tmp_path_factory):
    """A finished run of a sweep, and {file: content}."""
    folder = tmp_path_factory.mktemp("one") / "a"
    given = {"dataset": str(dataset), "hidden": "8", "latent": "2", "samples": "20", "epochs": "1", "engine": "eager"}
    (cell,) = cells.cells([], given)
    assert call(*cell.words(0), "--out", folder) is None
    return many.Run(cell, 0, folder), {name: (folder / name).read_bytes() for name in DAMAGED}


def test_figures_over_seeds():
    one = table.summarise([-90.0], [0.5])
    assert (one.sd, one.standard_error, one.bar, one.text(2)) == (None, None, 0.5, "-90.00")
    three = table.summarise([-90.0, -91.0, -92.0], [0.4, 0.5, 0.6])
    assert (three.mean, three.sd, three.error, three.bar) == (-91.0, 1.0, 0.5, 1.0)
    assert three.standard_error == pytest.approx(3**-0.5) and three.text(1) == "-91.0 ± 1.0"
