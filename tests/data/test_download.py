from __future__ import annotations

import functools
import hashlib
import http.server
import threading
import zipfile

import pytest

from tclap.data import download
from tclap.data.download import fetch, unpack

BODY = bytes(range(256)) * 40
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", str(2 * len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)
        elif self.path == "/moved":
            self.send_response(301)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/file.zip")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Address of a server with ``file.zip``, half of a file at ``cut`` and a redirection at ``moved``."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setattr(download, "SCHEME", "http://127.0.0.1:")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "file.zip").write_bytes(BODY)
    handler = functools.partial(Handler, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        # Polled often, because closing the server waits for the next poll.
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("known", [None, MD5, f"sha256:{hashlib.sha256(BODY).hexdigest()}"])
def test_a_file_arrives_whole_and_alone(tmp_path, site, known):
    path = fetch(f"{site}/file.zip", tmp_path / "new" / "mine.zip", known)
    assert path.read_bytes() == BODY and names(path.parent) == ["mine.zip"]
    # A file that is there needs no server, but one with another hash is replaced.
    assert fetch(f"{site}/none", path, known) == path
    path.write_bytes(b"old")
    assert fetch(f"{site}/file.zip", path, known).read_bytes() == (BODY if known else b"old")


@pytest.mark.parametrize(
    ("name", "known", "error", "words"),
    [
        ("file.zip", f"md5:{'0' * 32}", ValueError, f"mine.zip.*expected md5:{'0' * 32}"),
        ("gone", MD5, OSError, "404.*gone"),
        ("cut", None, OSError, "10240 bytes read"),
        ("moved", None, ValueError, "http://localhost.*expected"),
    ],
)
def test_what_does_not_arrive_as_expected_leaves_nothing(tmp_path, site, name, known, error, words):
    with pytest.raises(error, match=words):
        fetch(f"{site}/{name}", tmp_path / "new" / "mine.zip", known)
    assert names(tmp_path / "new") == []


@pytest.mark.parametrize(
    "url", ["http://host/file", "file:///etc/hostname", "ftp://host/file", "/etc/hostname"]
)
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(ValueError, match=f"{url}.*https"):
        fetch(url, tmp_path / "file")


def archive_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_unpack_all_or_an_inner_folder(tmp_path):
    archive = archive_of(tmp_path / "a.zip", {"top/a.txt": "a", "top/sub/b.txt": "b", "other.txt": "c"})
    all_of_it = unpack(archive, tmp_path / "new" / "all")
    assert (all_of_it / "top/sub/b.txt").read_text() == "b" and names(all_of_it) == ["other.txt", "top"]
    (tmp_path / "top").mkdir()
    assert names(unpack(archive, tmp_path / "top", "top")) == ["a.txt", "sub"]
    # Readable as any new folder is.
    assert (tmp_path / "top").stat().st_mode == (tmp_path / "new").stat().st_mode
    with pytest.raises(OSError, match="not empty"):
        unpack(archive, tmp_path / "top", "top")
    assert names(tmp_path) == ["a.zip", "new", "top"] and names(tmp_path / "top") == ["a.txt", "sub"]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil"])
def test_a_member_outside_the_folder_is_refused(tmp_path, name):
    archive = archive_of(tmp_path / "a.zip", {"good": "good", name: "evil"})
    with pytest.raises(ValueError, match=f"a.zip holds '{name}'.*outside"):
        unpack(archive, tmp_path / "folder")
    assert names(tmp_path) == ["a.zip"]


def test_a_broken_archive_leaves_nothing(tmp_path):
    archive = archive_of(tmp_path / "a.zip", {"a.txt": "good", "b.bin": BODY})
    with pytest.raises(ValueError, match=r"a\.zip has no folder top"):
        unpack(archive, tmp_path / "folder", "top")
    data = bytearray(archive.read_bytes())
    # Within what is stored of b.bin, behind the header of 30 bytes and the name.
    data[data.index(b"b.bin") + 60] ^= 1
    for content in (bytes(data), b"<html>"):
        archive.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.zip is not a valid zip"):
            unpack(archive, tmp_path / "folder")
    assert names(tmp_path) == ["a.zip"]
