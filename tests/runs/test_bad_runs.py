"""Runs that no machine can hold, and config.json files that no run wrote: one line, before any long work."""

import contextlib
import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from tests.cli.test_train import SMALL, call, train
from vampyro import memory as capacity
from vampyro.catalogue import assemble, saving
from vampyro.cli import export
from vampyro.distributions import DiagonalNormal
from vampyro.errors import SpecError, UserError
from vampyro.likelihood import score
from vampyro.likelihood.importance import least_bytes
from vampyro.runs import config as flags
from vampyro.runs import device as limits
from vampyro.runs import training_run as training
from vampyro.runs.config import ADDED, Config, RunConfig
from vampyro.runs.scoring import load_images
from vampyro.training.checkpoint import CheckpointError

# --- memory

LARGE = {
    "prior": ({"prior": "vamp:1000000000"}, "prior 'vamp:1000000000'.* needs at least 3.1 TB"),
    "start": ({"prior": "vamp:1000000000:fixed"}, "needs 1000000000 training images"),
    "mixture": ({"prior": "mog:1000000000"}, "needs at least 160.0 GB"),
    "hidden": ({"hidden": (10**9, 10**9)}, r"hidden \(1000000000, 1000000000\).*needs at least 6.3 TB"),
    "latent": ({"latent": 10**9}, "latent 1000000000.* needs at least 2.4 TB"),
    "shape": ({"shape": (10**9, 10**9, 10**9)}, "needs more memory|needs at least"),
    "layers": ({"hidden": (1,) * 101}, "at most 100 layers"),
    "codebook": ({"posterior": "vq:64", "prior": "autoregressive", "latent": 4 * 10**8}, "needs at least 480.0 GB"),
}


@pytest.mark.parametrize("case", LARGE)
def test_a_part_that_does_not_fit_into_memory_is_named_and_not_made(case, monkeypatch):
    settings, message = LARGE[case]
    monkeypatch.setattr(capacity, "available_bytes", lambda: 10**10)
    with pytest.raises((capacity.CapacityError, SpecError), match=message) as error:
        assemble.assemble(images=torch.zeros(9, 1, 28, 28), **settings)
    assert isinstance(error.value, UserError) and "\n" not in str(error.value)


def test_what_fits_is_built_as_ever(monkeypatch):
    """The same numbers with the check as without, and the check counts every parameter."""
    torch.manual_seed(0)
    model, guide = assemble.assemble(prior="vamp:5", flow="planar:2", hidden=(8,), latent=2, shape=(1, 4, 4))
    monkeypatch.setattr(capacity.Allowance, "__enter__", lambda self: self)
    monkeypatch.setattr(capacity.Allowance, "__exit__", lambda *_: None)
    torch.manual_seed(0)
    again = assemble.assemble(prior="vamp:5", flow="planar:2", hidden=(8,), latent=2, shape=(1, 4, 4))
    for program, other in zip((model, guide), again):
        assert all(map(torch.equal, program.state_dict().values(), other.state_dict().values()))
    monkeypatch.undo()
    linear = 4 * (784 * 300 + 300)
    for available, fits in ((linear - 1, False), (linear, True)):
        monkeypatch.setattr(capacity, "available_bytes", lambda: available)
        with contextlib.nullcontext() if fits else pytest.raises(capacity.CapacityError):
            with capacity.Allowance("a layer", "take a smaller one") as allowance:
                torch.nn.Linear(784, 300).requires_grad_(False)
    assert allowance.made >= linear


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad") / "run"
    assert train(dataset, folder, "--epochs", 1) is None
    return folder


@pytest.fixture
def a_run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def configure(folder, content):
    (folder / "config.json").write_text(json.dumps(content))


JOBS = [["--resume"], ["score"], ["sample"]]


@pytest.mark.parametrize("job", JOBS)
def test_a_config_of_a_run_that_does_not_fit_is_an_error_in_one_line(job, a_run):
    config = json.loads((a_run / "config.json").read_text())
    for settings in ({"prior": "vamp:1000000000"}, {"hidden": [10**9, 10**9]}, {"latent": 10**9}):
        configure(a_run, config | settings)
        status = call(*job, a_run)
        assert status.startswith("error: ") and "B of memory" in status and "\n" not in status


def test_a_part_that_fits_but_not_its_training_is_refused_before_it_is_made(dataset, monkeypatch):
    """Gradient, two moments of Adam and the best epoch's weights: five times the part in all."""
    config, *_ = flags.read(["--dataset", str(dataset), *SMALL, "--prior", "mog:1000", "--latent", "3"])
    images = load_images(config)
    monkeypatch.setattr(capacity, "available_bytes", lambda: 5 * 4 * 3 * 1000)  # of the means, not the rest
    with pytest.raises(
        capacity.CapacityError, match="training with --prior mog:1000, --hidden 16,12, --latent 3 needs"
    ):
        training.assemble_run(config, images)
    monkeypatch.setattr(capacity, "available_bytes", lambda: 10**8)
    model, *_ = training.assemble_run(config, images)
    assert sum(p.numel() for p in model.prior.parameters()) >= 3000


def test_samples_of_an_objective_that_do_not_fit_are_refused_before_the_first_step(dataset, tmp_path):
    status = train(dataset, tmp_path / "a", "--objective", "iwae:1000000000")
    assert "iwae:1000000000 with batches of 32 images needs at least 3.8 TB" in status and "\n" not in status
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("latent, exact", [(12, True), (13, False)])
def test_samples_that_do_not_fit_are_rejected_and_sums_over_codes_are_not(dataset, latent, exact, monkeypatch):
    """The estimate is below what a scoring allocates; a sum over 2^12 codes needs nothing for its samples."""
    config, *_ = flags.read(["--dataset", str(dataset), *SMALL, "--prior", "standard", "--flow", "none"])
    config |= {"posterior": "bernoulli", "latent": latent}
    images = load_images(config)
    model, guide, _ = training.assemble_run(config, images)
    x = images.images("test")
    with capacity.MadeBytes() as allocated:
        score(model, guide, x[:1], 10_000, compiled=False)
    needed = 0 if exact else 10_000 * (5 * 4 * latent + 4 * 8)
    assert least_bytes(model, x, 10_000) == needed < allocated.made
    monkeypatch.setattr(limits, "available_bytes", lambda device: 10**9)
    with contextlib.nullcontext() if exact else pytest.raises(capacity.CapacityError, match="--samples 10000000 needs"):
        limits.check_samples(model, x, 10**7)


def test_score_and_resume_reject_samples_that_do_not_fit(dataset, tmp_path):
    run, count = tmp_path / "a", 10**9
    assert train(dataset, run, "--epochs", 1, "--engine", "eager") is None
    for command in (["score", run, "--measures", "outliers,ais"], ["--resume", run]):
        assert call(*command, "--samples", count).startswith(f"error: --samples {count} needs at least ")
    with pytest.raises(capacity.CapacityError, match=f"--proposals {10 * count} needs at least "):
        export.export(run, 1, count, None, "test", None)
    assert not (run / "measures").exists()


def test_more_images_than_fit_are_not_drawn(a_run):
    status = call("sample", a_run, "--count", 10**9, "--device", "cpu")
    assert "--count 1000000000 needs at least 480.0 GB" in status and "\n" not in status


def test_a_batch_larger_than_the_training_set_times_the_prior_with_that_set():
    """--batch-size 1000000000 on 40 images drew as many points from the prior."""
    asked = []

    class Prior(torch.nn.Module):
        def forward(self):
            normal = DiagonalNormal(torch.zeros(2), torch.ones(2))
            draw = normal.sample
            normal.sample = lambda shape: asked.append(tuple(shape)) or draw(shape)
            return normal

    images = SimpleNamespace(train=range(40), device=torch.device("cpu"))
    for size, expected in ((10**5, (40,)), (8, (8,))):
        asked.clear()
        fake = SimpleNamespace(config=Config(batch_size=size), images=images, model=SimpleNamespace(prior=Prior()))
        assert training.Run.seconds_in_prior(fake) > 0
        assert set(asked) == {expected}


# --- config.json


@pytest.mark.parametrize("name", RunConfig.__dataclass_fields__)
def test_a_setting_that_is_missing_is_named_in_one_line(name, a_run):
    config = json.loads((a_run / "config.json").read_text())
    config.pop(name)
    configure(a_run, config)
    for job in JOBS:
        status = call(*job, a_run)
        if name in ADDED:  # an older run lacks it
            assert status is None
        else:
            assert status.startswith("error: ") and f"it lacks {name}" in status and "\n" not in status


@pytest.mark.parametrize("content", [[], None, 3, "text", [1, 2], {"a": 1}])
def test_what_is_no_object_is_no_config(content, a_run):
    configure(a_run, content)
    for job in JOBS:
        status = call(*job, a_run)
        assert status.startswith("error: ") and "is not the config.json of a run" in status and "\n" not in status
    with pytest.raises(CheckpointError, match="config.json is not the config.json of a run"):
        saving.load(a_run)


@pytest.mark.parametrize(
    "settings",
    [
        {"shape": [1, 6]}, {"shape": [10**9] * 3}, {"shape": None}, {"sha256": None}, {"sha256": {"a": 1}},
        {"classes": "x"}, {"classes": 0}, {"classes": 3}, {"condition": "label"}, {"gemm": 5}, {"processes": 0},
        {"out": ""}, {"data_dir": ""}, {"dataset": "two\nlines"}, {"dataset": "x" * 5000}, {"hidden": [1] * 101},
    ],
    ids=str,
)  # fmt: skip
def test_values_of_other_kinds_are_named_in_one_line(settings, a_run):
    config = json.loads((a_run / "config.json").read_text())
    configure(a_run, config | settings)
    for job in JOBS:
        status = call(*job, a_run)
        assert status.startswith("error: ") and "config.json" in status and "\n" not in status and len(status) < 600


@pytest.mark.parametrize("part", [part for part in assemble.PARTS if part != "condition"] + ["shape"])
def test_load_names_a_part_that_is_missing_or_strange(part, a_run):
    config = json.loads((a_run / "config.json").read_text())
    configure(a_run, {name: value for name, value in config.items() if name != part})
    with pytest.raises((CheckpointError, SpecError), match="config.json"):
        saving.load(a_run)
    for strange in (None, 5.5, {"a": 1}, "zzz"):
        configure(a_run, config | {part: strange})
        with pytest.raises((CheckpointError, SpecError), match="config.json"):
            saving.load(a_run)
