"""Downloads from a server on this machine that does everything a server can do wrong."""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from data_helpers import images, labels

from mnistnet.cli.data import _bar
from mnistnet.data import catalog_download, load_data
from mnistnet.data.catalog import CATALOG, Entry, RemoteFile
from mnistnet.data.catalog_download import Bar, cache_folder, fetch, is_cached
from mnistnet.data.idx import idx_header
from mnistnet.errors import DataError, OutputError

TIMEOUT = 0.3
NAMES = tuple(file.name for file in CATALOG["mnist"].files)
CONTENT = {
    name: gzip.compress(idx_header(values) + values.tobytes(), mtime=0)
    for name, values in zip(
        NAMES, (images(12, 3, 2), labels(12), images(5, 3, 2, first=100), labels(5)), strict=True
    )
}


class Handler(BaseHTTPRequestHandler):
    """The first part of the path says how to behave, the last is the file."""

    released = threading.Event()

    def do_GET(self) -> None:
        manner, _, name = self.path.strip("/").partition("/")
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        body = self.server.content.get(name, b"")  # type: ignore[attr-defined]
        if manner.isdigit():
            self.send_error(int(manner))
        elif manner in ("redirect", "circle"):
            self.send_response(302)
            self.send_header("Location", f"/{'good' if manner == 'redirect' else 'circle'}/{name}")
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            match manner:
                case "truncate":
                    self.wfile.write(body[:-5])
                case "stall":
                    self.wfile.write(body[:5])
                    self.wfile.flush()
                    self.released.wait(10)
                case "corrupt":
                    self.wfile.write(body[:-1] + bytes([body[-1] ^ 1]))
                case _:
                    self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.asked = []  # type: ignore[attr-defined]
        server.content = CONTENT  # type: ignore[attr-defined]
        Handler.released.clear()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        Handler.released.set()
        server.shutdown()
        thread.join()


def entry(server: ThreadingHTTPServer, *manners: str) -> Entry:
    files = tuple(
        RemoteFile(name, f"sha256:{hashlib.sha256(content).hexdigest()}") for name, content in CONTENT.items()
    )
    mirrors = tuple(f"http://127.0.0.1:{server.server_address[1]}/{manner}/" for manner in manners)
    return Entry("tiny", "Tiny", files, mirrors, 1, (12, 5), tuple("abcdefghij"), "none")


def test_a_good_mirror(server, tmp_path):
    wanted = entry(server, "good")
    assert not is_cached(wanted, tmp_path)
    folder = fetch(wanted, tmp_path, timeout=TIMEOUT)
    assert is_cached(wanted, tmp_path)
    assert {path.name: path.read_bytes() for path in folder.glob("*.gz")} == CONTENT
    splits = load_data(folder)
    assert (len(splits.train), len(splits.test)) == (12, 5)
    assert splits.train.class_names == tuple("abcdefghij")


FAULTS = {
    "truncate": "broke off",
    "stall": "fell silent",
    "corrupt": "served other bytes than were published (checksum)",
    "403": "answered 403 (Forbidden)",
    "404": "answered 404 (Not Found)",
    "500": "answered 500 (Internal Server Error)",
    "circle": "redirects in circles",
}


@pytest.mark.parametrize("manner", FAULTS)
def test_a_bad_mirror_is_said_and_leaves_nothing(server, tmp_path, manner):
    wanted = entry(server, manner)
    with pytest.raises(DataError) as caught:
        fetch(wanted, tmp_path, timeout=TIMEOUT)
    says = str(caught.value)
    assert says.startswith(f"tiny: {NAMES[0]} cannot be had: {wanted.mirrors[0]} {FAULTS[manner]}; try again")
    assert says.endswith(f"put {' '.join(NAMES)} into {tmp_path / 'tiny'} by hand and repeat")
    assert not is_cached(wanted, tmp_path)
    assert list((tmp_path / "tiny").iterdir()) == []


@pytest.mark.parametrize("manner", [*FAULTS, "redirect"])
def test_the_next_mirror_is_asked(server, tmp_path, manner):
    folder = fetch(entry(server, manner, "good"), tmp_path, timeout=TIMEOUT)
    assert {path.name: path.read_bytes() for path in folder.glob("*.gz")} == CONTENT


def test_nobody_listens(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        wanted = entry(server, "good")
    with pytest.raises(DataError, match="cannot be reached"):
        fetch(wanted, tmp_path, timeout=TIMEOUT)


def test_what_is_there_is_verified_and_not_fetched_again(server, tmp_path):
    wanted = entry(server, "good")
    folder = fetch(wanted, tmp_path, timeout=TIMEOUT)
    (folder / NAMES[1]).write_bytes(b"damaged")
    (folder / NAMES[3]).unlink()
    server.asked.clear()
    fetch(wanted, tmp_path, timeout=TIMEOUT)
    assert server.asked == [f"/good/{NAMES[1]}", f"/good/{NAMES[3]}"]
    assert {path.name: path.read_bytes() for path in folder.glob("*.gz")} == CONTENT


def test_files_put_there_by_hand_need_no_network(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        wanted = entry(server, "good")
    (tmp_path / "tiny").mkdir()
    for name, content in CONTENT.items():
        (tmp_path / "tiny" / name).write_bytes(content)
    assert len(load_data(fetch(wanted, tmp_path, timeout=TIMEOUT)).train) == 12


def test_what_a_killed_download_left_is_removed_when_it_is_old(server, tmp_path, monkeypatch):
    leftover = tmp_path / "tiny" / "tmpabc"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    fetch(entry(server, "good"), tmp_path, timeout=TIMEOUT)
    assert leftover.exists()  # it may belong to a download that runs
    monkeypatch.setattr(catalog_download, "_STALE", -1.0)
    fetch(entry(server, "good"), tmp_path, timeout=TIMEOUT)
    assert not leftover.exists()


def test_every_file_gets_its_bar(server, tmp_path):
    class CountingBar:
        total = 0.0
        shown = 0.0
        closed = False

        def update(self, n: float) -> None:
            self.shown += n

        def reset(self) -> None:
            self.shown = 0

        def close(self) -> None:
            self.closed = True

    bars: dict[str, list[CountingBar]] = {}

    def bar(name: str) -> CountingBar:
        bars.setdefault(name, []).append(CountingBar())
        return bars[name][-1]

    fetch(entry(server, "truncate", "good"), tmp_path, bar=bar, timeout=TIMEOUT)
    assert {name: len(each) for name, each in bars.items()} == dict.fromkeys(NAMES, 2)
    assert all(each.closed for pair in bars.values() for each in pair)
    assert {name: pair[1].shown for name, pair in bars.items()} == {k: len(v) for k, v in CONTENT.items()}


def test_the_bar_on_a_terminal_moves(server, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    bars = {}

    def bar(name: str) -> Bar:
        bars[name] = _bar(name)
        return bars[name]

    fetch(entry(server, "good"), tmp_path, bar=bar, timeout=TIMEOUT)
    sizes = {name: len(content) for name, content in CONTENT.items()}
    assert {name: (each.n, each.total) for name, each in bars.items()} == {
        k: (v, v) for k, v in sizes.items()
    }
    assert all(name in sys.stderr.getvalue() for name in NAMES)


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        fetch(entry(server, "good"), tmp_path / "file", timeout=TIMEOUT)


def test_emnist_is_turned_upright_and_counted_from_0(server, tmp_path, monkeypatch):
    upright = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for part in ("train", "test"):
            turned = upright.transpose(0, 2, 1).copy()
            numbers = np.array([1, 26], np.uint8)
            for what, values in (("images-idx3", turned), ("labels-idx1", numbers)):
                member = gzip.compress(idx_header(values) + values.tobytes())
                archive.writestr(f"gzip/emnist-letters-{part}-{what}-ubyte.gz", member)
    server.content = {"gzip.zip": stream.getvalue()}
    checksum = f"sha256:{hashlib.sha256(stream.getvalue()).hexdigest()}"
    mirror = f"http://127.0.0.1:{server.server_address[1]}/good/"
    letters = CATALOG["emnist-letters"]
    tiny = Entry(
        "emnist-letters", "", (RemoteFile("gzip.zip", checksum),), (mirror,), 1, (2, 2), letters.class_names,
        "", "letters",
    )  # fmt: skip
    folder = fetch(tiny, tmp_path, timeout=TIMEOUT)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mnistnet.data.catalog_download.write_idx", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(tiny, tmp_path, timeout=TIMEOUT)
    splits = load_data(folder)
    assert np.array_equal(splits.train.images[:, 0], upright)
    assert [splits.test.class_names[label] for label in splits.test.labels] == ["A", "Z"]
    balanced = Entry("x", "", tiny.files, (mirror,), 1, (2, 2), (), "", "balanced")
    with pytest.raises(DataError, match="not EMNIST's archive"):
        fetch(balanced, tmp_path, timeout=TIMEOUT)


def test_the_cache_is_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTNET_CACHE", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c"
    monkeypatch.delenv("MNISTNET_CACHE")
    assert cache_folder().name in ("mnistnet", "Cache")


def test_every_entry_is_complete():
    for name, each in CATALOG.items():
        assert each.name == name
        assert each.mirrors
        assert all(mirror.endswith("/") for mirror in each.mirrors)
        assert all(file.checksum.partition(":")[0] in ("md5", "sha256") for file in each.files)
        assert len(set(each.class_names)) == len(each.class_names) > 9
    assert len(CATALOG["emnist-balanced"].class_names) == 47
