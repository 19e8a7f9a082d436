"""OMNIGLOT and Caltech 101 Silhouettes, on files made in the layout of the published ones: upright, ink on paper."""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from vampyro import data
from vampyro.data import caltech101, matlab, omniglot, omniglot_small
from vampyro.data import download as cache
from vampyro.errors import DataError

SPLITS = ("train", "valid", "test")


@pytest.fixture(autouse=True)
def packed(tmp_path, monkeypatch):
    """An empty cache, and no network."""
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "packed")
    for source in omniglot, caltech101:
        monkeypatch.setattr(source, "URLS", ("http://127.0.0.1:1/file.mat",))
    monkeypatch.setattr(omniglot_small, "MIRRORS", ("http://127.0.0.1:1/",))


def letter(size, scale):
    """An upright F as True: no flip or turn of it looks the same."""
    picture = np.zeros((size, size), bool)
    for rows, columns in (((4, 25), (8, 11)), ((4, 7), (8, 21)), ((12, 15), (8, 17))):
        picture[slice(*(scale * r for r in rows)), slice(*(scale * c for c in columns))] = True
    return picture


F = letter(28, 1)
BITS = 15  # of an image's number, in its last row


def numbered(count):
    """(count, 28, 28) bits: F over the image's own number."""
    pictures = np.repeat(F[None], count, axis=0)
    pictures[:, 27, :BITS] = np.arange(count)[:, None] >> np.arange(BITS) & 1
    return pictures


def numbers(images):
    """The numbers of `numbered` images (N, 1, 28, 28)."""
    return ((images[:, 0, 27, :BITS] > 0.5).long() << torch.arange(BITS)).sum(1)


def column_major(pictures):
    """(N, 784) with each picture's first column first."""
    rows = pictures.transpose(0, 2, 1).reshape(len(pictures), 784)
    assert np.array_equal(rows[-1], pictures[-1].flatten(order="F"))
    return rows


def one_hot(labels):
    return np.eye(50, dtype=np.uint8)[:, labels]


# --- omniglot


def chardata(grey=1.0, dtype=np.uint8, **change):
    """The bytes of a chardata.mat of `numbered` images with a grey F; `change` replaces arrays, None removes one."""
    arrays = {}
    for name, target, count in ("data", "target", 24_345), ("testdata", "testtarget", 8_070):
        pictures = numbered(count).astype(dtype)
        pictures[:, F] = grey
        arrays[name] = column_major(pictures).T
        arrays[target] = one_hot(np.arange(count) % 50).astype(float)
    arrays["targetchar"] = np.ones((1, 24_345))
    arrays = {name: array for name, array in {**arrays, **change}.items() if array is not None}
    raw = io.BytesIO()
    savemat(raw, arrays, do_compression=True)
    return raw.getvalue()


@pytest.fixture(scope="module")
def grey_file():
    return chardata(0.7, np.float32)


def put(root, name, raw):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def publish(monkeypatch, source, raw):
    """Make these bytes the published file of omniglot or caltech101."""
    monkeypatch.setattr(source, "MD5", hashlib.md5(raw).hexdigest())
    return raw


def test_omniglot_is_the_files_images_upright_in_three_splits(tmp_path, grey_file, monkeypatch):
    put(tmp_path, "omniglot/chardata.mat", publish(monkeypatch, omniglot, grey_file))
    images = data.load("omniglot", root=tmp_path, binarize="none")
    assert repr(images) == "ImageSet(omniglot: 23000 / 1345 / 8070 images of 1×28×28, grey)"
    assert images.values == "unit" and images.train.dtype == torch.float32
    assert images.sha256 == {"chardata.mat": hashlib.sha256(grey_file).hexdigest()}
    for split in SPLITS:
        upright = images.images(split)[:, 0, :27]
        assert torch.equal(upright, torch.from_numpy(F[:27] * np.float32(0.7)).expand_as(upright))
        assert torch.equal(images.labels[split], numbers(images.images(split)) % 50)
    train, valid, test = (numbers(images.images(split)) for split in SPLITS)
    assert torch.cat([train, valid]).sort().values.tolist() == list(range(24_345))
    assert train.tolist() == np.random.RandomState(0).permutation(24_345)[:23_000].tolist()
    assert test.tolist() == list(range(8_070))

    monkeypatch.setattr(matlab, "read", lambda *_, **__: pytest.fail("parsed twice"))
    again = data.load("omniglot", root=tmp_path)
    assert again.binarize == "dynamic" and again.values == "binary"
    assert torch.equal(again.train, images.train) and torch.equal(again.labels["valid"], images.labels["valid"])


def test_omniglot_in_steps_of_a_byte_is_kept_in_bytes(tmp_path, monkeypatch):
    put(tmp_path, "omniglot/chardata.mat", publish(monkeypatch, omniglot, chardata(51 / 255, np.float32)))
    images = data.load("omniglot", root=tmp_path, binarize="none")
    assert images.values == "levels"
    assert torch.equal(images.test[0, 0, :27], torch.from_numpy(np.uint8(51) * F[:27]))
    assert numbers(images.images("test")).tolist() == list(range(8_070))


@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 20, None])
def test_a_broken_chardata_is_refused(tmp_path, grey_file, monkeypatch, content):
    publish(monkeypatch, omniglot, grey_file)
    path = put(tmp_path, "omniglot/chardata.mat", grey_file[:-1000] if content is None else content)
    with pytest.raises(DataError, match=f"{path} is not the published file: (.|\n)*cannot be replaced"):
        data.load("omniglot", root=tmp_path)
    put(tmp_path, "omniglot/chardata.mat", grey_file)
    assert len(data.load("omniglot", root=tmp_path).train) == 23_000


# --- caltech101

COUNTS = {"train": 4_100, "val": 2_264, "test": 2_307}


def silhouettes(**change):
    """The bytes of a file of `numbered` silhouettes, 0 on 1 as in the published one."""
    arrays = {"classnames": np.array(["anchor", "ant"], object)}
    for name, count in COUNTS.items():
        arrays[f"{name}_data"] = 1 - column_major(numbered(count)).astype(np.uint8)
        arrays[f"{name}_labels"] = (np.arange(count, dtype=np.uint8)[:, None] % 101) + 1
    raw = io.BytesIO()
    savemat(raw, {name: a for name, a in {**arrays, **change}.items() if a is not None}, do_compression=True)
    return raw.getvalue()


def test_caltech101_is_the_files_silhouettes_upright_as_ones(tmp_path, monkeypatch):
    path = put(tmp_path, f"caltech101/{caltech101.FILE}", publish(monkeypatch, caltech101, silhouettes()))
    images = data.load("caltech101", root=tmp_path)
    assert repr(images) == "ImageSet(caltech101: 4100 / 2264 / 2307 images of 1×28×28, fixed binarisation)"
    assert images.values == "binary" and images.sha256 == {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    for split, count in zip(SPLITS, COUNTS.values(), strict=True):
        upright = images.images(split)[:, 0, :27]
        assert torch.equal(upright, torch.from_numpy(F[:27] * np.float32(1)).expand_as(upright))
        assert numbers(images.images(split)).tolist() == list(range(count))
        assert images.labels[split].tolist() == [number % 256 % 101 for number in range(count)]
    assert images.labels["train"].max() == 100
    with pytest.raises(DataError, match="caltech101 is binary already"):
        data.load("caltech101", root=tmp_path, binarize="dynamic")
    monkeypatch.setattr(matlab, "read", lambda *_, **__: pytest.fail("parsed twice"))
    assert torch.equal(data.load("caltech101", root=tmp_path).test, images.test)


# --- omniglot-small


def png(ink):
    """The bytes of a black on white picture."""
    raw = io.BytesIO()
    Image.fromarray(~ink).convert("1").save(raw, "png")
    return raw.getvalue()


def averaged(ink):
    """105×105 to 28×28 by way of 420×420."""
    return ink.repeat(4, 0).repeat(4, 1).reshape(28, 15, 28, 15).mean((1, 3))


def test_omniglot_small_is_upright_ink_split_by_the_drawings_numbers(tmp_path, monkeypatch):
    names = {
        "one.zip": ["one/Greek/character01", "one/Latin/character01"],
        "two.zip": ["two/Latin/character01", "two/Balinese/character07"],
    }
    pictures = {}
    for zipped, folders in names.items():
        raw = io.BytesIO()
        with zipfile.ZipFile(raw, "w") as archive:
            archive.writestr(folders[0].split("/")[0] + "/", "")
            for folder in folders:
                for number in range(1, 21):
                    ink = letter(105, 3)
                    ink[104, :number] = ink[103, : len(folder.split("/")[1])] = True
                    pictures[folder[4:], number] = ink
                    archive.writestr(f"{folder}/0123_{number:02}.png", png(ink))
        put(tmp_path, f"omniglot/{zipped}", raw.getvalue())
    sha256 = {name: hashlib.sha256((tmp_path / "omniglot" / name).read_bytes()).hexdigest() for name in names}
    monkeypatch.setattr(omniglot_small, "SHA256", sha256)
    images = data.load("omniglot-small", root=tmp_path, binarize="none")
    assert repr(images) == "ImageSet(omniglot-small: 42 / 6 / 12 images of 1×28×28, grey)"
    assert images.values == "levels" and images.sha256 == sha256
    alphabets = ["Balinese/character07", "Greek/character01", "Latin/character01"]
    for split, drawings in ("train", range(1, 15)), ("valid", (15, 16)), ("test", range(17, 21)):
        expected = np.stack([averaged(pictures[alphabet, n]) for n in drawings for alphabet in alphabets])
        assert np.abs(images.images(split)[:, 0].numpy() - expected).max() <= 0.5 / 255 + 1e-6
        assert images.labels[split].tolist() == [0, 1, 2] * len(drawings)
    assert data.load("omniglot-small", root=tmp_path / "gone").values == "binary"  # from the cache


def test_omniglot_small_is_the_published_drawings():
    root = Path(__file__).parents[3] / "shared" / "data"
    if not (root / "omniglot").is_dir():
        pytest.skip(f"needs the published files in {root / 'omniglot'}")
    images = data.load("omniglot-small", root=root, binarize="none")
    assert repr(images) == "ImageSet(omniglot-small: 3388 / 484 / 968 images of 1×28×28, grey)"
    # Balinese, Early Aramaic, Greek, Japanese, Korean, Latin, Sanskrit, Tagalog
    assert images.labels["test"].bincount().tolist() == [4 * n for n in (24, 22, 24, 47, 40, 26, 42, 17)]
    with zipfile.ZipFile(root / "omniglot" / "images_background_small1.zip") as archive:
        for index, number in ((0, 17), (242, 18)):
            with archive.open(f"images_background_small1/Balinese/character01/0108_{number}.png") as file:
                ink = ~np.array(Image.open(file))
            assert np.abs(images.images("test")[index, 0].numpy() - averaged(ink)).max() <= 0.5 / 255 + 1e-6
    rows = torch.cat([images.train, images.valid, images.test]).flatten(1)
    assert len(rows.unique(dim=0)) > 4_800  # no drawing twice, but for dots that look the same
    assert 0.03 < images.images("train").mean() < 0.2
