"""Properties of what is typed, asked for or read, over inputs that hypothesis makes up: the same ones every time."""

import contextlib
import gzip
import hashlib
import io
import struct
import zipfile

import numpy as np
import pyro
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from tests.cli.test_train import call
from tests.helpers import every
from vampyro import data
from vampyro.catalogue.assemble import assemble
from vampyro.catalogue.parts import FAMILIES
from vampyro.catalogue.specs import Spec, parse, parse_each
from vampyro.data import download as checked
from vampyro.data import matlab
from vampyro.errors import DataError, SpecError
from vampyro.objectives import Trace_ELBO
from vampyro.runs import config as flags
from vampyro.runs import training_run as training
from vampyro.runs.config import Config
from vampyro.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

settings.register_profile("same", derandomize=True, deadline=None, database=None, max_examples=200)
settings.load_profile("same")
few = settings(max_examples=40, suppress_health_check=list(HealthCheck))

NAMES = sorted({word for forms in FAMILIES.values() for name, form in forms.items() for word in (name, *form.options)})
WORDS = st.sampled_from(NAMES) | st.sampled_from(["", "0", "-1", "+3", "7", "²", "1e3", " ", "\n", "9" * 5000, "none"])
TEXTS = st.lists(WORDS | st.text(max_size=6), max_size=5).map(":".join) | st.text(max_size=30)


@st.composite
def specs(draw):
    """A family, and a Spec of it."""
    family = draw(st.sampled_from(sorted(FAMILIES)))
    name = draw(st.sampled_from(sorted(FAMILIES[family])))
    form = FAMILIES[family][name]
    options = draw(st.sets(st.sampled_from(form.options))) if form.options else set()
    if len(clash := options & set(form.exclusive)) > 1:
        options -= set(sorted(clash)[1:])
    n = None if form.n is None else draw(st.integers(1, form.max_n))
    return family, Spec(name, n, frozenset(options))


# --- specs


@given(specs())
def test_a_spec_reads_back(case):
    family, spec = case
    assert parse(family, str(spec)) == spec
    assert str(parse(family, str(spec))) == str(spec)


@given(specs(), st.randoms(use_true_random=False))
def test_the_order_of_options_and_blanks_around_do_not_matter(case, random):
    family, spec = case
    options = sorted(spec.options)
    random.shuffle(options)
    number = [] if spec.n is None else [str(spec.n)]
    assert parse(family, f"  {':'.join([spec.name, *number, *options])}\t") == spec


@given(st.sampled_from(sorted(FAMILIES)), TEXTS | st.none() | st.integers() | st.lists(st.text()))
def test_a_spec_is_read_or_refused_with_a_spec_error_in_one_line(family, text):
    try:
        spec = parse(family, text)
    except SpecError as error:
        assert family in str(error) and "\n" not in str(error)
    else:
        assert parse(family, str(spec)) == spec


@given(st.lists(st.sampled_from(every("flow", 3)), min_size=1, max_size=3), st.integers(1, 3))
def test_one_flow_for_all_or_one_for_each(flows, count):
    try:
        read = parse_each("flow", ",".join(flows), count)
    except SpecError:
        assert len(flows) not in (1, count)
    else:
        assert [str(spec) for spec in read] == (flows * count if len(flows) == 1 else flows)


# --- the command line

FLAGS = sorted(flag for flag in flags.parser()._option_string_actions if flag.startswith("--") and flag != "--help")
VALUES = TEXTS | st.sampled_from(["cpu", "cuda", "gpu", "auto", "eager", "eagre", "adam", "sgd", "dynamic", "~x.npz"])
VALUES |= st.floats().map(str) | st.integers(-(10**400), 10**400).map(str) | st.integers(0, 50).map(str)
VALUES |= st.lists(st.integers(-1, 60).map(str), max_size=4).map(",".join)
ARGUMENTS = st.tuples(st.sampled_from(FLAGS), VALUES).map("=".join) | VALUES
SETTINGS = VALUES | st.none() | st.integers() | st.lists(st.integers())


@pytest.fixture
def harmless(dataset, tmp_path, monkeypatch):
    """Runs that neither train nor download."""
    monkeypatch.setattr(training.Run, "train", lambda self: None)
    monkeypatch.setattr(training.Run, "report", lambda self: None)
    monkeypatch.setattr(data, "DATA_SETS", {})
    monkeypatch.chdir(tmp_path)
    return dataset


@few
@given(arguments=st.lists(ARGUMENTS, max_size=4))
def test_a_command_line_runs_or_ends_in_an_error_without_a_traceback(harmless, arguments):
    base = ["--dataset", harmless, "--hidden", "5", "--device", "cpu"]
    argv = [str(word).replace("\0", "") for word in arguments]  # which no command line can hold
    words = io.StringIO()
    with contextlib.redirect_stderr(words), contextlib.redirect_stdout(io.StringIO()):
        status = call(*base, *argv)
    if status not in (None, 0):
        message = status if isinstance(status, str) else words.getvalue()
        assert message.startswith("error: ")


@given(st.dictionaries(st.sampled_from(sorted(flags.DEFAULTS)), SETTINGS, max_size=2))
def test_a_config_is_one_that_a_command_line_gives_or_a_spec_error(changes):
    try:
        config = Config.from_dict(dict(Config()) | changes | {"parts": None})  # a file, which would be executed
    except SpecError:
        return
    named = {name: value for name, value in config.items() if value is not None and value is not False}
    argv = [
        flags.flags_of([name]) if value is True else f"{flags.flags_of([name])}={flags.written(value)}"
        for name, value in named.items()
    ]
    assert flags.parser().named_settings(argv) == named


# --- shapes


@few
@given(
    model=st.sampled_from(sorted(FAMILIES["model"])),
    prior=st.sampled_from(every("prior", 2)),
    flow=st.sampled_from(every("flow", 2)),
    net=st.sampled_from(sorted(FAMILIES["net"])),
    likelihood=st.sampled_from(every("likelihood", 1)),
    activation=st.sampled_from(sorted(FAMILIES["activation"])),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    hidden=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    latent=st.integers(1, 4) | st.tuples(st.integers(1, 4), st.integers(1, 4)),
    batch=st.integers(1, 3),
)
def test_parts_of_any_size_make_programs_that_agree_or_a_spec_error(batch, shape, likelihood, **parts):
    x = torch.randint(2, (batch, *shape)).float()
    try:
        model, guide = assemble(**parts, shape=shape, likelihood=likelihood, images=torch.rand(3, *shape))
    except SpecError as error:
        assert "\n" not in str(error)
        return
    with pyro.validation_enabled(True):
        loss = Trace_ELBO().differentiable_loss(model, guide, x)
    assert loss.shape == () and loss.isfinite()
    assert model(batch=batch).shape == x.shape


# --- data files


def archive(arrays):
    raw = io.BytesIO()
    np.savez(raw, **arrays)
    return raw.getvalue()


SPLITS = ("train", "valid", "test")
ARRAYS = st.builds(
    lambda shape, dtype, fill: np.full(shape, fill).astype(dtype),
    st.lists(st.integers(0, 4), max_size=5).map(tuple),
    st.sampled_from(["u1", "i8", "f2", "f4", "f8", "?", "c8", "U3", "S2", "M8[s]"]),
    st.sampled_from([0, 1, 255]),
)


def damaged(whole):
    """A file with a few bytes changed, or cut off, or with something after it."""
    changes = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=5)

    def change(places):
        raw = bytearray(whole)
        for position, byte in places:
            raw[position] = byte
        return bytes(raw)

    cut = st.integers(0, len(whole) - 1).map(lambda length: whole[:length])
    return changes.map(change) | cut | st.binary(max_size=50).map(lambda rest: whole + rest) | st.binary(max_size=200)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "file.npz"


def loaded_or_refused(path, raw):
    path.write_bytes(raw)
    try:
        images = data.load(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert all(images.images(split).isfinite().all() for split in SPLITS)
        assert {images.images(split).shape[1:] for split in SPLITS} == {images.image_shape}


GOOD = archive({split: np.linspace(0, 1, 24).reshape(2, 4, 3) for split in SPLITS} | {"train_labels": np.arange(2)})


@given(damaged(GOOD))
def test_a_damaged_npz_is_refused_or_holds_images(path, raw):
    loaded_or_refused(path, raw)


@given(st.dictionaries(st.sampled_from([*SPLITS, "train_labels", "test_labels", "more"]), ARRAYS), ARRAYS)
def test_an_npz_of_any_arrays_is_refused_or_holds_images(path, arrays, same):
    loaded_or_refused(path, archive(arrays))
    loaded_or_refused(path, archive(dict.fromkeys(SPLITS, same) | arrays))


@given(st.data())
def test_a_damaged_member_of_an_npz_is_refused_or_holds_images(path, draw):
    """The archive itself is in order, and its checksums fit."""
    raw = io.BytesIO()
    np.save(raw, np.linspace(0, 1, 24).reshape(2, 4, 3))
    member = draw.draw(damaged(raw.getvalue()))
    with zipfile.ZipFile(path, "w") as file:
        for split in SPLITS:
            file.writestr(f"{split}.npy", member)
    loaded_or_refused(path, path.read_bytes())


IDX = struct.pack(">IIII", 2051, 3, 4, 5) + bytes(range(60))


@given(damaged(IDX) | damaged(gzip.compress(IDX, mtime=0)), st.booleans())
def test_a_damaged_idx_file_is_refused_unless_it_is_the_published_one(tmp_path_factory, raw, zipped):
    path = tmp_path_factory.getbasetemp() / ("idx.gz" if zipped else "idx")
    path.write_bytes(raw)
    try:
        assert checked.contents(path, f"sha256:{hashlib.sha256(IDX).hexdigest()}") == IDX
    except DataError as error:
        assert str(path) in str(error)


def matlab_file(arrays, **how):
    raw = io.BytesIO()
    savemat(raw, arrays, **how)
    return raw.getvalue()


MATLAB = matlab_file({split: np.linspace(0, 1, 784)[None] for split in SPLITS})


@given(damaged(MATLAB))
def test_a_damaged_matlab_file_is_refused_unless_it_is_the_published_one(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "file.mat"
    path.write_bytes(raw)
    try:
        images = matlab.load(
            "made", path, (), hashlib.md5(MATLAB).hexdigest(),
            lambda arrays: {split: matlab.pictures(arrays[split]).astype("float32") for split in SPLITS},
        )  # fmt: skip
    except DataError as error:
        assert f"{path} is not the published file" in str(error)
    else:
        assert raw == MATLAB and images.image_shape == (1, 28, 28)


# --- checkpoints


@given(st.data())
def test_a_damaged_checkpoint_is_refused_or_holds_what_was_written(path, draw):
    state, file = {"epoch": 3, "weights": torch.arange(40.0)}, path.with_name("checkpoint.pt")
    save_checkpoint(file, state)
    file.write_bytes(draw.draw(damaged(file.read_bytes())))
    try:
        read = load_checkpoint(file)
    except CheckpointError as error:
        assert str(file) in str(error)
    else:
        assert not isinstance(read, dict) or (read["epoch"] == 3 and torch.equal(read["weights"], state["weights"]))
