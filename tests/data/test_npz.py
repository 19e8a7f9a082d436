"""Hostile .npz files: each is refused by its fault, from its headers where they suffice; channels and colours."""

import io
import zipfile

import numpy as np
import pytest
import torch

from tests.cli.test_train import call
from vampyro import data
from vampyro import memory as capacity
from vampyro.data import npz, validate
from vampyro.errors import DataError, SpecError
from vampyro.runs import config as flags
from vampyro.runs.scoring import load_images

SPLITS = ("train", "valid", "test")
GREY = np.random.RandomState(0).rand(12, 6, 5).astype("float32")
COLOUR = np.random.RandomState(1).randint(256, size=(12, 3, 6, 5)).astype("uint8")
# --- .npz files


def save(path, **arrays):
    np.savez(path, **dict.fromkeys(SPLITS, GREY) | arrays)
    return path


def member(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def archive(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return path


GOOD = [(f"{split}.npy", member(GREY)) for split in SPLITS]
ARRAYS = {
    "objects": (np.array([1, "a", None], object), "Python objects"),
    "records": (np.zeros(12, [("a", "f4"), ("b", "u1")]), "records"),
    "complex": (GREY.astype("c8"), "train is complex64.*array.real"),
    "int64": ((GREY * 255).astype("int64"), "train is int64.*save array.astype.'uint8'. where its values are 0..255"),
    "uint16": ((GREY * 65535).astype("uint16"), r"train is uint16.*else \(array / 65535\).astype\('float32'\)"),
    "text": (np.full((12, 6, 5), "a"), "train is <U1"),
    "dates": (np.zeros((12, 6, 5), "M8[s]"), "train is datetime64"),
    "nan": (np.where(GREY > 0.9, np.nan, GREY), "not finite"),
    "infinite": (np.where(GREY > 0.9, np.inf, GREY), "not finite"),
    "beyond float32": (GREY.astype("f8") * 1e300, "not finite"),
    "from -1": (2 * GREY - 1, r"expected \[0, 1\]: rescale all splits, for example \(array \+ 1\) / 2"),
    "to 255": (255 * GREY, "for example array / 255"),
    "no images": (GREY[:0], "empty"),
    "no pixels": (GREY[:, :0], "empty"),
    "a number": (np.float32(1), r"of shape \(\)"),
    "a vector": (GREY[:, 0, 0], r"of shape \(12,\)"),
    "five axes": (GREY[:, None, None], r"of shape \(12, 1, 1, 6, 5\)"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_are_no_images_are_refused_by_their_kind(case, tmp_path):
    array, message = ARRAYS[case]
    with pytest.raises(DataError, match=message) as error:
        data.load(save(tmp_path / "images.npz", train=array, valid=array, test=array))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [">f4", ">f8", "f2", "g"])
@pytest.mark.parametrize("order", "CF")
def test_floats_of_every_precision_and_order_are_read(kind, order, tmp_path):
    array = np.array(GREY, dtype=kind, order=order)
    images = data.load(save(tmp_path / "images.npz", **dict.fromkeys(SPLITS, array)), binarize="none")
    assert np.array_equal(images.train[:, 0].numpy(), array.astype("float32"))


def header(shape, kind="<f4"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


MEMBERS = {
    "a member twice": ([*GOOD, ("train.npy", member(1 - GREY))], "train is there twice"),
    "a member under two names": ([*GOOD, ("train", member(1 - GREY))], "train is there twice"),
    "nested archives": ([(name, b"PK\x03\x04" + bytes(100)) for name, _ in GOOD], "magic string"),
    "text beside arrays": ([*GOOD, ("README.txt", b"hello, this is text")], "magic string"),
    "empty members": ([(name, b"") for name, _ in GOOD], "damaged"),
    "cut members": (
        [(name, content[:-7]) for name, content in GOOD],
        "train has 1433 bytes, and a shape that takes 1440",
    ),
    "longer members": ([(name, content + b"abcd") for name, content in GOOD], "train has 1444 bytes"),
    "a negative shape": ([(name, header((-1, 4, 4)) + bytes(64)) for name, _ in GOOD], "a shape that takes -64"),
    "a huge shape": ([(name, header((10**30, 4, 4)) + bytes(64)) for name, _ in GOOD], "train has 64 bytes"),
    "an expression": ([(name, header("(10**9, 4, 4)") + bytes(64)) for name, _ in GOOD], "damaged"),
    "an unknown type": ([(name, header((1, 4, 4), "zzz") + bytes(64)) for name, _ in GOOD], "damaged"),
    "an unknown version": ([(name, b"\x93NUMPY\x09" + content[7:]) for name, content in GOOD], "damaged"),
    "nothing": ([], "has no train, valid, test, but nothing"),
    "other names": ([(name.upper(), content) for name, content in GOOD], "has no train, valid, test, but TRAIN"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", MEMBERS)
def test_archives_that_are_no_images_are_refused_by_their_fault(case, tmp_path):
    members, message = MEMBERS[case]
    if case == "other names":
        members = [(name.replace(".NPY", ".npy"), content) for name, content in members]
    with pytest.raises(DataError, match=message) as error:
        data.load(archive(tmp_path / "images.npz", members))
    assert "\n" not in str(error.value)


def test_what_is_refused_or_not_needed_is_not_unpacked(tmp_path, monkeypatch):
    """The headers suffice: gigabytes of zeros take a few megabytes in a file."""
    unpacked = []
    monkeypatch.setattr(npz, "_unpacked", lambda archive, header: unpacked.append(header.member) or GREY)
    zeros = np.zeros((9, 1, 2, 2), "int64")
    with pytest.raises(DataError, match="train is int64"):
        data.load(save(tmp_path / "images.npz", train=zeros))
    assert unpacked == []
    data.load(save(tmp_path / "images.npz", extra=zeros))
    assert sorted(unpacked) == sorted(name for name, _ in GOOD)


def test_images_that_do_not_fit_into_memory_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "images.npz"
    np.savez_compressed(path, **dict.fromkeys(SPLITS, np.zeros((1000, 6, 5), "float32")))
    monkeypatch.setattr(capacity, "available_bytes", lambda: 8 * 3 * 1000 * 30 - 1)
    monkeypatch.setattr(npz, "_unpacked", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(
        capacity.CapacityError, match="images.npz needs at least 720000 bytes of memory, and 719999 bytes are"
    ):
        data.load(path)


def test_labels_beyond_int64_are_refused(tmp_path):
    labels = np.full(12, 2**63 + 5, "uint64")
    with pytest.raises(DataError, match="train_labels has 9223372036854775813"):
        data.load(save(tmp_path / "images.npz", train_labels=labels))


# --- channels and colours


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 40])
def test_channels_last_are_refused_for_every_number_of_channels(channels, tmp_path):
    last = np.random.RandomState(0).rand(5, 32, 32, channels).astype("float32")
    first = last.transpose(0, 3, 1, 2)
    assert data.load(save(tmp_path / "first.npz", **dict.fromkeys(SPLITS, first)), binarize="none").image_shape == (
        channels, 32, 32,
    )  # fmt: skip
    for splits in SPLITS, ("test",):  # all of them, or one that differs from the others
        path = save(tmp_path / "last.npz", **dict.fromkeys(SPLITS, first) | dict.fromkeys(splits, last))
        with pytest.raises(DataError, match=r"channels last.*transpose\(0, 3, 1, 2\)"):
            data.load(path)
    x = torch.from_numpy(last)
    with pytest.raises(DataError, match="channels last"):
        data.ImageSet("mine", x, x, x)


def test_of_every_small_shape_one_order_of_axes_at_least_is_taken():
    """So the advice to transpose never leads to an image that cannot be used."""
    sizes = range(1, 9)
    for shape in [(5, a, b, c) for a in sizes for b in sizes for c in sizes]:
        n, height, width, channels = shape
        if validate.has_channels_last(shape):
            assert not validate.has_channels_last((n, channels, height, width))


def test_colour_images_ask_for_a_likelihood(tmp_path):
    path = str(save(tmp_path / "colour.npz", **dict.fromkeys(SPLITS, COLOUR)))
    config = flags.DEFAULTS | {"dataset": path}
    with pytest.raises(SpecError, match="colour.*choose --likelihood normal or logistic or continuous-bernoulli"):
        load_images(config)
    assert "grey" not in call("--dataset", path, "--out", tmp_path / "a") and not (tmp_path / "a").exists()
    for likelihood in ("logistic", "normal", "continuous-bernoulli"):
        images = load_images(config | {"likelihood": likelihood})
        assert np.array_equal(images.train.numpy(), COLOUR) and "3×6×5, colour)" in repr(images)
    assert load_images(config | {"binarize": "threshold"}).values == "binary"
    assert data.load(path).binarize == "none" and data.load(path, binarize="dynamic").binarize == "dynamic"
    bits = np.where(COLOUR > 127, 255, 0).astype("uint8")
    path = str(save(tmp_path / "bits.npz", **dict.fromkeys(SPLITS, bits)))
    assert load_images(flags.DEFAULTS | {"dataset": path}).binarize == "fixed"  # nothing to ask for
