"""Downloads: what is there is whole, what is broken is replaced, and where neither can be had the error says why."""

import gzip
import hashlib
import http.server
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pooch
import pytest

from tests.data.test_image_set import silhouettes
from vampyro import data
from vampyro.data import caltech101, download, mnist, omniglot_small, static_mnist
from vampyro.errors import DataError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def packed(tmp_path, monkeypatch):
    """An empty cache, and no proxy between the tests and their own server."""
    monkeypatch.setattr(download, "folder", lambda: tmp_path / "packed")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server():
    """A web server on this machine.

    `files` maps paths to bodies; those in `truncated` break off, and those in `stalled` stop half-way until `go`.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server = self.server
            server.asked.append(self.path)
            body = server.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", len(body or b"") * (2 if self.path in server.truncated else 1))
            self.end_headers()
            if self.path in server.stalled:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                server.go.wait(60)
                return
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.truncated, server.stalled, server.asked = {}, set(), set(), []
        server.go = threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.go.set()
        server.shutdown()


BODY = b"body" * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()
CHECKSUM = f"sha256:{SHA256}"


# --- fetch


def test_a_download_appears_whole_under_its_name_alone(server, tmp_path, monkeypatch):
    server.files = {"/file": BODY}
    path = tmp_path / "new" / "folder" / "file"
    seen = []
    download_whole = pooch.HTTPDownloader.__call__

    def spy(self, url, output_file, *args, **kwargs):
        seen.append(Path(output_file))
        return download_whole(self, url, output_file, *args, **kwargs)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", spy)
    download.fetch(path, [f"{server.url}/file"], CHECKSUM)
    assert path.read_bytes() == BODY and list(path.parent.iterdir()) == [path]
    assert [temporary.parent for temporary in seen] == [path.parent] and seen != [path]
    server.files = {}
    download.fetch(path, [f"{server.url}/file"], CHECKSUM)  # it is there, so nothing is asked for


def test_the_next_mirror_is_tried(server, tmp_path):
    server.files = {"/wrong": b"other", "/cut": BODY, "/right": BODY}
    server.truncated = {"/cut"}
    download.fetch(tmp_path / "file", [f"{server.url}/{name}" for name in ("gone", "wrong", "cut", "right")], CHECKSUM)
    assert (tmp_path / "file").read_bytes() == BODY
    assert server.asked == ["/gone", "/wrong", "/cut", "/right"]


@pytest.mark.parametrize("fault", ["missing", "wrong", "truncated"])
def test_a_failed_download_leaves_nothing_behind(server, tmp_path, fault):
    folder = tmp_path / "root"
    server.files = {"missing": {}, "wrong": {"/file": b"other"}, "truncated": {"/file": BODY}}[fault]
    server.truncated = {"/file"} if fault == "truncated" else set()
    with pytest.raises(DataError, match=f"cannot download file, tried\n  {server.url}/file: "):
        download.fetch(folder / "file", [f"{server.url}/file"], CHECKSUM)
    assert list(folder.iterdir()) == []


# --- provide: what is broken is replaced

BROKEN = {"truncated": BODY[:1234], "other": b"other", "empty": b""}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_replaced(server, tmp_path, broken):
    path = tmp_path / "file"
    path.write_bytes(broken)
    server.files = {"/file": BODY}
    urls = [f"{server.url}/gone", f"{server.url}/file"]
    assert download.provide(path, urls, CHECKSUM) == BODY
    assert path.read_bytes() == BODY and list(tmp_path.iterdir()) == [path]
    assert download.provide(path, urls, CHECKSUM) == BODY
    assert server.asked == ["/gone", "/file"]  # a whole file is not asked for again


@pytest.mark.parametrize("served", [None, b"other", "cut"])
def test_a_broken_file_stays_until_its_successor_is_whole(server, tmp_path, served):
    path = tmp_path / "file"
    path.write_bytes(b"broken")
    server.files = {} if served is None else {"/file": BODY if served == "cut" else served}
    server.truncated = {"/file"} if served == "cut" else set()
    actual = hashlib.sha256(b"broken").hexdigest()
    with pytest.raises(DataError) as error:
        download.provide(path, [f"{server.url}/file"], CHECKSUM)
    for said in (
        f"{path} is not the published file: its contents' sha256 is {actual}, expected {SHA256}",
        "and it cannot be replaced: cannot download file, tried",
        f"{server.url}/file: ",
        f"Put the file at {path} by hand",
    ):
        assert said in str(error.value)
    assert path.read_bytes() == b"broken" and list(tmp_path.iterdir()) == [path]


def test_a_broken_file_behind_a_link_is_replaced_and_the_other_end_left_alone(server, tmp_path):
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.write_bytes(b"broken")
    ours.symlink_to(theirs)
    server.files = {"/file": BODY}
    download.provide(ours, [f"{server.url}/file"], CHECKSUM)
    assert ours.read_bytes() == BODY and theirs.read_bytes() == b"broken"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_broken_file_in_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_bytes(b"broken")
    path.parent.chmod(0o500)
    with pytest.raises(DataError, match="is not the published file(.|\n)*it cannot be replaced: .*denied"):
        download.provide(path, [f"{server.url}/file"], CHECKSUM)


@pytest.mark.parametrize("before", [None, b"broken"])
def test_a_download_that_is_killed_half_way_counts_for_nothing(server, tmp_path, before):
    path = tmp_path / "root" / "file"
    path.parent.mkdir()
    if before:
        path.write_bytes(before)
    server.files = {"/file": BODY}
    server.stalled = {"/file"}
    program = f"from pathlib import Path; from vampyro.data import download; download.fetch(Path({str(path)!r}), "
    program += f"[{server.url + '/file'!r}], {CHECKSUM!r})"
    child = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not any(0 < other.stat().st_size for other in path.parent.iterdir() if other != path):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert (path.read_bytes() if path.exists() else None) == before
    server.stalled = set()
    assert download.provide(path, [f"{server.url}/file"], CHECKSUM) == BODY


# --- the sources' own files


def small_mnist(monkeypatch, *mirrors):
    """static-mnist made of six lines, at these mirrors: {file: text}."""
    line = b" ".join([b"0", b"1"] * 392) + b"\n"
    counts = {"train": 3, "valid": 2, "test": 1}
    texts = {f"binarized_mnist_{split}.amat": line * count for split, count in counts.items()}
    monkeypatch.setattr(static_mnist, "MIRRORS", mirrors)
    sha256 = {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    monkeypatch.setattr(static_mnist, "SHA256", sha256)
    return texts


def test_static_mnist_is_downloaded_where_it_is_missing(server, tmp_path, monkeypatch):
    texts = small_mnist(monkeypatch, f"{server.url}/gone/", f"{server.url}/")
    server.files = {f"/{name}": text for name, text in texts.items()}
    images = data.load("static-mnist", root=tmp_path)
    assert {split: len(images.images(split)) for split in ("train", "valid", "test")} == dict(train=3, valid=2, test=1)
    assert images.images("test").flatten().tolist() == [0.0, 1.0] * 392
    assert {path.name: path.read_bytes() for path in (tmp_path / "static_mnist").iterdir()} == texts


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_static_mnist_replaces_a_broken_file_or_says_what_is_wrong(server, tmp_path, monkeypatch, suffix):
    texts = small_mnist(monkeypatch, f"{server.url}/")
    folder = tmp_path / "static_mnist"
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(text) if suffix else text)
    name = "binarized_mnist_valid.amat"
    path = folder / f"{name}{suffix}"
    path.write_bytes(path.read_bytes()[:-9])
    said = "is damaged: " if suffix else "is not the published file: "
    with pytest.raises(DataError, match=f"{path} {said}(.|\n)*cannot be replaced: cannot download {name}, tried"):
        data.load("static-mnist", root=tmp_path)
    server.files = {f"/{name}": texts[name]}
    assert len(data.load("static-mnist", root=tmp_path).valid) == 2
    assert (folder / name).read_bytes() == texts[name]


@pytest.fixture
def almost_mnist(tmp_path):
    """Three of the four MNIST files, and where the fourth is missing."""
    published = Path(__file__).parents[3] / "shared" / "data" / "MNIST" / "raw"
    if not published.is_dir():
        pytest.skip(f"needs the published files in {published}")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in published.iterdir():
        (raw / path.name).symlink_to(path)
    missing = raw / "t10k-labels-idx1-ubyte"
    content = missing.read_bytes()
    missing.unlink()
    return tmp_path, missing, content


def test_mnist_unzips_beside_what_is_there(almost_mnist):
    root, missing, content = almost_mnist
    missing.with_name(f"{missing.name}.gz").write_bytes(gzip.compress(content))
    assert data.load("mnist", root=root).labels["test"][:5].tolist() == [7, 2, 1, 0, 4]
    assert missing.read_bytes() == content


@pytest.mark.parametrize("broken", ["", "file", "file and .gz"])
def test_mnist_downloads_from_torchvisions_mirrors(almost_mnist, server, monkeypatch, broken):
    root, missing, content = almost_mnist
    name, zipped = f"{missing.name}.gz", gzip.compress(content)
    if "file" in broken:
        missing.write_bytes(content[:-1] + b"\0")
    if ".gz" in broken:
        missing.with_name(name).write_bytes(zipped[:-9])
    source = mnist.torchvision().datasets.MNIST
    md5 = hashlib.md5(zipped).hexdigest()
    server.files = {f"/mirror/{name}": zipped}
    monkeypatch.setattr(source, "mirrors", [f"{server.url}/gone/", f"{server.url}/mirror/"])
    monkeypatch.setattr(source, "resources", [(n, md5 if n == name else old) for n, old in source.resources])
    assert data.load("mnist", root=root).labels["test"][:5].tolist() == [7, 2, 1, 0, 4]
    assert missing.read_bytes() == content


def test_mnist_refuses_a_file_that_is_not_the_published_one(almost_mnist, server, monkeypatch):
    root, missing, content = almost_mnist
    missing.write_bytes(content[:-1] + b"\0")
    monkeypatch.setattr(mnist.torchvision().datasets.MNIST, "mirrors", [f"{server.url}/gone/"])
    with pytest.raises(DataError, match=f"{missing} .* expected ff7bcfd4(.|\n)*tried\n  {server.url}/gone/"):
        data.load("mnist", root=root)
    assert missing.read_bytes() == content[:-1] + b"\0"


def test_omniglot_small_replaces_a_broken_zip(server, tmp_path, monkeypatch):
    from PIL import Image

    raw, png = io.BytesIO(), io.BytesIO()
    Image.new("1", (105, 105), 1).save(png, "png")
    with zipfile.ZipFile(raw, "w") as archive:
        for number in 14, 16, 20:
            archive.writestr(f"small/Greek/character01/0394_{number}.png", png.getvalue())
    body = raw.getvalue()
    monkeypatch.setattr(omniglot_small, "SHA256", {"small.zip": hashlib.sha256(body).hexdigest()})
    monkeypatch.setattr(omniglot_small, "MIRRORS", (f"{server.url}/gone/", f"{server.url}/"))
    server.files = {"/small.zip": body}
    path = tmp_path / "omniglot" / "small.zip"
    path.parent.mkdir()
    path.write_bytes(body[:-5])
    assert repr(data.load("omniglot-small", root=tmp_path)).startswith("ImageSet(omniglot-small: 1 / 1 / 1 images")
    assert path.read_bytes() == body


@pytest.mark.parametrize("before", [None, 0, 1000, "another"])
def test_a_matlab_file_is_downloaded_where_it_is_missing_or_damaged(server, tmp_path, monkeypatch, before):
    body = silhouettes()
    path = tmp_path / "caltech101" / caltech101.FILE
    if before is not None:
        path.parent.mkdir()
        path.write_bytes(silhouettes(test_labels=[[0]] * 2_307) if before == "another" else body[:before])
    monkeypatch.setattr(caltech101, "URLS", (f"{server.url}/gone", f"{server.url}/cut", f"{server.url}/file"))
    monkeypatch.setattr(caltech101, "MD5", hashlib.md5(body).hexdigest())
    server.files = {"/cut": body, "/file": body}
    server.truncated = {"/cut"}
    assert len(data.load("caltech101", root=tmp_path).train) == 4_100
    assert path.read_bytes() == body and list(path.parent.iterdir()) == [path]


def test_a_matlab_file_of_another_digest_is_neither_downloaded_nor_shown_to_scipy(server, tmp_path, monkeypatch):
    body = silhouettes()
    path = tmp_path / "caltech101" / caltech101.FILE
    monkeypatch.setattr(caltech101, "URLS", (f"{server.url}/file",))
    monkeypatch.setattr("scipy.io.loadmat", lambda *_, **__: pytest.fail("scipy has seen the file"))
    server.files = {"/file": body}
    with pytest.raises(DataError, match=f"{caltech101.MD5}(.|\n)*Put the file at {path} by hand"):
        data.load("caltech101", root=tmp_path)
    assert not path.exists()
    path.write_bytes(body)
    with pytest.raises(DataError, match=f"{path} is not the published file: .* expected {caltech101.MD5}"):
        data.load("caltech101", root=tmp_path)
    assert path.read_bytes() == body


def test_without_a_network_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(static_mnist, "MIRRORS", ("http://127.0.0.1:1/a/", "http://127.0.0.1:1/b/"))
    with pytest.raises(DataError) as error:
        data.load("static-mnist", root=tmp_path)
    for said in (
        "cannot download binarized_mnist_train.amat",
        "http://127.0.0.1:1/a/binarized_mnist_train.amat",
        "http://127.0.0.1:1/b/binarized_mnist_train.amat",
        str(tmp_path / "static_mnist" / "binarized_mnist_train.amat"),
        "mnist5k, which needs no download",
    ):
        assert said in str(error.value)


@pytest.mark.parametrize("name", ["static-mnist", "mnist", "omniglot", "omniglot-small", "caltech101"])
def test_a_root_that_cannot_be_written_is_an_error(tmp_path, name):
    (tmp_path / "root").write_text("a file, not a folder")
    with pytest.raises(DataError, match="/root' is a file, expected a folder of data sets: choose another folder"):
        data.load(name, root=tmp_path / "root")
