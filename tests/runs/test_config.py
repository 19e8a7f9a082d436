"""Config: one description of every setting, for flags, config.json and --config FILE.toml."""

import json
import sys
from dataclasses import FrozenInstanceError

import pytest

from tests.cli.test_train import SMALL, call
from vampyro.catalogue.parts import FAMILIES
from vampyro.errors import SpecError
from vampyro.runs import config as flags
from vampyro.runs.arguments import as_started
from vampyro.runs.config import Config, RunConfig
from vampyro.runs.results import read_config


def toml(path, text):
    path.write_text(text)
    return str(path)


def test_settings_are_attributes_and_a_mapping_of_the_same_values():
    config = Config() | {"latent": [3, 2], "prior": "mog:5"}
    assert config.latent == config["latent"] == [3, 2] and Config().latent == 40
    assert Config.from_dict(dict(config)) == config
    with pytest.raises(FrozenInstanceError):
        config.latent = 3
    with pytest.raises(TypeError):
        Config() | {"latnet": 3}


def test_every_default_is_one_that_its_flag_reads():
    argv = flags.words(Config())
    assert flags.read(argv)[0] == flags.read([])[0] == Config()
    assert {name for name in Config() if name in FAMILIES} >= {"prior", "flow", "likelihood"}


def test_a_file_gives_settings_and_flags_override_them(tmp_path):
    file = toml(
        tmp_path / "a.toml", 'prior = "vamp:5"\nhidden = [16, 12]\nbeta = 2\nbatch-size = 7\ntensorboard = false\n'
    )
    config, given, _ = flags.read(["--config", file, "--batch-size", "9"])
    assert (config.prior, config.hidden, config.beta, config.batch_size) == ("vamp:5", [16, 12], 2.0, 9)
    assert type(config.beta) is float and given.keys() == {"prior", "hidden", "beta", "batch_size", "tensorboard"}
    assert flags.read(flags.words(given))[0] == config


def test_a_run_from_a_file_is_the_run_of_its_flags(dataset, tmp_path):
    words = dict(zip(SMALL[::2], SMALL[1::2])) | {"--dataset": str(dataset), "--epochs": "1"}
    settings = {
        flag.removeprefix("--"): flags.parser().named_settings([flag, str(word)]).popitem()[1]
        for flag, word in words.items()
    }
    file = toml(tmp_path / "a.toml", "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    assert call("--config", file, "--out", tmp_path / "a") is None
    assert call(*[word for pair in words.items() for word in pair], "--out", tmp_path / "b") is None
    one, two = (read_config(tmp_path / name) for name in "ab")
    assert one | {"out": None} == two | {"out": None} and isinstance(one, RunConfig)
    results = [json.loads((tmp_path / name / "results.json").read_text())["test"] | {"seconds": 0} for name in "ab"]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("[training]\nepochs = 3", "unknown key 'training'"),
        ("resume = 'runs/a'", "unknown key 'resume'"),
        ("epochs = '3'", "epochs: expected 3, got '3'"),
        ("epochs = true", "epochs: expected a whole number of at least 1 and at most 1000000000, got 'True'"),
        ("epochs = 0", "epochs: expected a whole number of at least 1"),
        ("lr = nan", "lr: expected a number above 0"),
        ("latent = [3.5]", "latent: expected a whole number of at least 1 and at most 1000000000, got '3.5'"),
        ("hidden = '300'", "hidden: expected [300], got '300'"),
        ("prior = 'vmap:5'", "prior: unknown prior 'vmap'; did you mean 'vamp'?"),
        ("engine = 'eagr'", "engine: unknown engine 'eagr'; did you mean 'eager'?"),
        ("batch-size = 1.5", "batch-size: expected a whole number of at least 1"),
        ("out = ''", "out: expected a value, got ''"),
        ("tensorboard = 1", "tensorboard: expected true or false, got 1"),
        ("data_dir = 1979-05-27", "data_dir: expected '1979-05-27', got datetime.date(1979, 5, 27)"),
    ],
)
@pytest.mark.parametrize("job", [[], ["sweep", "--vary", "seed=1,2"]], ids=["train", "sweep"])
def test_a_wrong_file_is_an_error_that_names_the_file_and_the_key(job, text, message, tmp_path, capsys):
    file = toml(tmp_path / "a.toml", text)
    assert call(*job, "--config", file) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --config {file}: {message}") and error.count("\n") == 1


@pytest.mark.parametrize("text", ["epochs", "epochs = 1\nepochs = 2", "x = " + "[" * 100_000, "\udcff = 1"])
def test_what_is_not_toml_is_an_error_in_one_line(text, tmp_path, capsys):
    (tmp_path / "a.toml").write_bytes(text.encode(errors="surrogateescape"))
    for name in ("a.toml", "gone.toml", ""):
        assert call("--config", tmp_path / name) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: --config: ") and error.count("\n") == 1 and len(error) < 500


def test_a_file_cannot_change_what_a_run_is_when_it_is_resumed(tmp_path, capsys):
    file = toml(tmp_path / "a.toml", "latent = 3")
    assert call("--resume", "runs/a", "--config", file) == 2
    assert "got --latent" in capsys.readouterr().err


def test_a_file_gives_what_a_sweeps_runs_share(tmp_path, capsys):
    file = toml(tmp_path / "a.toml", "epochs = 1\nhidden = [8]\nlatent = 2\n")
    command = ["sweep", "--config", file, "--vary", "beta=1,2", "--dry-run", "--out", tmp_path / "out"]
    assert call(*command) is None
    assert "2 to do" in capsys.readouterr().out
    assert "given and varied" in call("sweep", "--config", file, "--vary", "epochs=1,2")


@pytest.mark.parametrize("name", ["condition", "gemm", "threads"])
def test_a_config_of_an_older_run_is_read(name):
    config = RunConfig(**Config(gemm="blas"), shape=[1, 2, 2], sha256={})
    content = {key: value for key, value in dict(config).items() if key != name}
    assert RunConfig.from_dict(content) == config
    with pytest.raises(SpecError, match="it lacks prior"):
        RunConfig.from_dict({key: value for key, value in content.items() if key != "prior"})


@pytest.mark.parametrize(
    ("argv0", "command"),
    [
        ("run.py", "python run.py score runs/a"),
        ("/usr/bin/vampyro", "vampyro score runs/a"),
        ("C:\\x\\vampyro.exe" if sys.platform == "win32" else "vampyro.exe", "vampyro score runs/a"),
        ("/x/vampyro/__main__.py", "python -m vampyro score runs/a"),
        ("/x/pytest", "python run.py score runs/a"),
    ],
)
def test_commands_are_written_as_the_program_was_started(argv0, command, monkeypatch):
    monkeypatch.setattr(sys, "argv", [argv0])
    assert as_started("python run.py score runs/a") == command
    assert flags.parser("run.py score").prog == command.replace("python run.py", "run.py").removesuffix(" runs/a")
