from __future__ import annotations

import hashlib
import http.server
import logging
import re
import stat
import threading
import zipfile

import numpy as np
import pytest

from tclap.data import download
from tclap.data.download import fetch, unpack

BODY = np.random.default_rng(0).bytes(10_000)
MD5 = hashlib.md5(BODY).hexdigest()


class Site(http.server.ThreadingHTTPServer):
    """Serves one body; the lists say what goes wrong with the next requests, one entry a request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.headers, self.ranges = BODY, {"ETag": '"one"'}, True
        self.cuts, self.errors, self.asked, self.shifted, self.tells_length = [], [], [], 0, True
        self.url = f"http://127.0.0.1:{self.server_port}/file.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        site = self.server
        site.asked.append((self.headers["Range"], self.headers["If-Range"]))
        if site.errors and (code := site.errors.pop(0)):
            return self.send_error(code)
        start = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        same = self.headers["If-Range"] in (None, site.headers.get("ETag"), site.headers.get("Last-Modified"))
        if wanted and same and site.ranges:
            start = int(wanted[1]) + site.shifted
            if start >= len(site.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(site.body)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(site.body) - 1}/{len(site.body)}")
        else:
            self.send_response(200)
        for name, value in site.headers.items():
            self.send_header(name, value)
        if site.tells_length:
            self.send_header("Content-Length", str(len(site.body) - start))
        self.end_headers()
        rest = site.body[start:]
        self.wfile.write(rest[: site.cuts.pop(0)] if site.cuts else rest)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSES", (0, 0, 0))
    monkeypatch.setattr(download, "CHUNK", 1000)
    with Site() as site:
        # Polled often, because closing the server waits for the next poll.
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.shutdown()
        thread.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "checksum", [{}, {"md5": MD5.upper()}, {"sha256": hashlib.sha256(BODY).hexdigest(), "md5": MD5}]
)
def test_a_file_arrives_whole_and_alone(tmp_path, site, checksum):
    path = fetch(site.url, tmp_path / "new" / "file.zip", what="file", **checksum)
    assert path == tmp_path / "new" / "file.zip"
    assert path.read_bytes() == BODY
    assert names(path.parent) == ["file.zip"]
    assert site.asked == [(None, None)]


def test_a_file_that_is_there_needs_no_network(tmp_path):
    path = tmp_path / "file.zip"
    path.write_bytes(BODY)
    assert fetch("http://127.0.0.1:9/none", path, md5=MD5, what="file") == path
    assert fetch("http://127.0.0.1:9/none", path, what="file") == path


def test_a_file_with_another_checksum_is_replaced(tmp_path, site, caplog):
    path = tmp_path / "file.zip"
    path.write_bytes(b"old")
    fetch(site.url, path, md5=MD5, what="file")
    assert path.read_bytes() == BODY
    assert f"downloaded anew: its md5 is {hashlib.md5(b'old').hexdigest()}, expected {MD5}" in caplog.text


@pytest.mark.parametrize("headers", [{"ETag": '"one"'}, {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}])
def test_a_cut_connection_is_resumed_where_it_was_cut(tmp_path, site, headers):
    site.headers = headers
    site.cuts = [4321, 2000]
    path = fetch(site.url, tmp_path / "file.zip", what="file")
    assert path.read_bytes() == BODY
    (validator,) = headers.values()
    assert site.asked == [(None, None), ("bytes=4321-", validator), ("bytes=6321-", validator)]


def test_after_too_many_cuts_a_rerun_goes_on(tmp_path, site):
    site.cuts = [1000, 1000, 1000, 1000]
    path = tmp_path / "file.zip"
    message = rf"{site.url} could not be downloaded in 4 attempts .*4000 of 10000.*: 4000 bytes are kept in "
    with pytest.raises(ConnectionError, match=message + rf"{path}.part, and running this again goes on"):
        fetch(site.url, path, md5=MD5, what="file")
    assert names(tmp_path) == ["file.zip.part", "file.zip.part.origin"]
    assert fetch(site.url, path, md5=MD5, what="file").read_bytes() == BODY
    assert site.asked[-1] == ("bytes=4000-", '"one"')
    assert names(tmp_path) == ["file.zip"]


def test_a_server_without_ranges_starts_anew(tmp_path, site):
    site.ranges = False
    site.cuts = [4321]
    assert fetch(site.url, tmp_path / "file.zip", what="file").read_bytes() == BODY
    assert site.asked[1] == ("bytes=4321-", '"one"')


def test_a_file_that_has_changed_since_starts_anew(tmp_path, site):
    site.cuts = [1000, 1000, 1000, 1000]
    with pytest.raises(ConnectionError):
        fetch(site.url, tmp_path / "file.zip", what="file")
    site.body, site.headers = BODY[::-1], {"ETag": '"two"'}
    assert fetch(site.url, tmp_path / "file.zip", what="file").read_bytes() == BODY[::-1]
    assert site.asked[-1] == ("bytes=4000-", '"one"')


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"one"'}])
def test_where_nothing_tells_that_the_file_is_the_same_it_starts_anew(tmp_path, site, headers):
    site.headers = headers
    site.cuts = [4321]
    assert fetch(site.url, tmp_path / "file.zip", what="file").read_bytes() == BODY
    assert site.asked == [(None, None), (None, None)]
    site.cuts = [4321] * 4
    with pytest.raises(ConnectionError, match="cannot resume this file; running this again starts anew"):
        fetch(site.url, tmp_path / "other.zip", what="file")


def test_a_checksum_alone_allows_to_resume(tmp_path, site):
    site.headers = {}
    (tmp_path / "file.zip.part").write_bytes(BODY[:123])
    assert fetch(site.url, tmp_path / "file.zip", md5=MD5, what="file").read_bytes() == BODY
    assert site.asked == [("bytes=123-", None)]


def test_a_part_of_another_address_is_not_gone_on_with(tmp_path, site):
    (tmp_path / "file.zip.part").write_bytes(b"other")
    (tmp_path / "file.zip.part.origin").write_text('{"url": "http://other", "validator": "\\"one\\""}')
    assert fetch(site.url, tmp_path / "file.zip", what="file").read_bytes() == BODY
    assert site.asked == [(None, None)]


def test_a_part_that_is_complete_only_gets_its_name(tmp_path, site):
    (tmp_path / "file.zip.part").write_bytes(BODY)
    assert fetch(site.url, tmp_path / "file.zip", md5=MD5, what="file").read_bytes() == BODY
    assert site.asked == [("bytes=10000-", None)]


def test_a_part_longer_than_the_file_is_dropped(tmp_path, site):
    (tmp_path / "file.zip.part").write_bytes(BODY + b"more")
    assert fetch(site.url, tmp_path / "file.zip", md5=MD5, what="file").read_bytes() == BODY
    assert site.asked == [("bytes=10004-", None), (None, None)]


def test_a_rest_that_does_not_follow_is_not_joined(tmp_path, site):
    site.cuts, site.shifted = [4321], 1
    assert fetch(site.url, tmp_path / "file.zip", what="file").read_bytes() == BODY
    assert site.asked == [(None, None), ("bytes=4321-", '"one"'), (None, None)]


def test_a_server_that_does_not_tell_the_length(tmp_path, site):
    site.tells_length = False
    assert fetch(site.url, tmp_path / "file.zip", md5=MD5, what="file").read_bytes() == BODY


def test_a_wrong_checksum_is_told_and_leaves_nothing(tmp_path, site):
    wrong = "0" * 32
    with pytest.raises(
        ValueError, match=f"{site.url} .* md5 is {MD5}, expected {wrong}; what arrived was re"
    ):
        fetch(site.url, tmp_path / "file.zip", md5=wrong, what="file")
    assert names(tmp_path) == []
    fetch(site.url, tmp_path / "file.zip", md5=MD5, what="file")
    assert site.asked == [(None, None), (None, None)]


def test_a_404_is_told_at_once(tmp_path, site):
    site.errors = [404]
    with pytest.raises(OSError, match=f"{site.url} cannot be downloaded: the server answered 404 Not Found$"):
        fetch(site.url, tmp_path / "file.zip", what="file")
    assert len(site.asked) == 1
    assert names(tmp_path) == []


def test_a_passing_error_is_tried_again(tmp_path, site):
    site.errors = [503, 429]
    assert fetch(site.url, tmp_path / "file.zip", what="file").read_bytes() == BODY
    site.errors = [503] * 4
    with pytest.raises(ConnectionError, match=r"answered 503 .*: nothing has arrived; run this again later"):
        fetch(site.url, tmp_path / "other.zip", what="file")


def test_no_server(tmp_path, site):
    with pytest.raises(ConnectionError, match=r"in 4 attempts \(no connection: .*refused"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file", what="file")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/file", "/etc/hostname"])
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(ValueError, match=f"cannot download '{url}'; expected an address that begins with h"):
        fetch(url, tmp_path / "file", what="file")


def test_progress_in_a_batch_run_and_where_somebody_watches(tmp_path, site, caplog, monkeypatch, capsys):
    with caplog.at_level(logging.INFO):
        fetch(site.url, tmp_path / "file.zip", what="ESC-50")
    # Ten pieces: a line at every quarter that is passed.
    lines = [re.sub(r", \d+ s$", "", record.getMessage()) for record in caplog.records]
    assert lines == [f"ESC-50 (MiB): {n} of 10" for n in (3, 5, 8)] + ["ESC-50 (MiB): done"]
    monkeypatch.delenv("TCLAP_BATCH")
    fetch(site.url, tmp_path / "again.zip", what="ESC-50")
    assert "10/10" in capsys.readouterr().err


def archive_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in members.items():
            file.writestr(name, text)
    return path


def test_unpack_all_or_an_inner_folder(tmp_path):
    archive = archive_of(tmp_path / "a.zip", {"top/a.txt": "a", "top/sub/b.txt": "b", "other.txt": "c"})
    unpack(archive, tmp_path / "all")
    assert names(tmp_path / "all") == ["other.txt", "top"]
    (tmp_path / "empty").mkdir()
    folder = unpack(archive, tmp_path / "empty", inner="top")
    assert names(folder) == ["a.txt", "sub"]
    assert (folder / "sub" / "b.txt").read_text() == "b"
    assert names(tmp_path) == ["a.zip", "all", "empty"]


def test_unpack_touches_no_folder_that_holds_something(tmp_path):
    archive = archive_of(tmp_path / "a.zip", {"a.txt": "new"})
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "a.txt").write_text("old")
    with pytest.raises(FileExistsError, match="used is not empty; expected a new or empty folder"):
        unpack(archive, tmp_path / "used")
    assert (tmp_path / "used" / "a.txt").read_text() == "old"


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "C:/evil", "..\\evil", "\\evil", "\\\\host\\evil"]
)
def test_a_member_that_would_land_outside_is_refused(tmp_path, name):
    archive = archive_of(tmp_path / "a.zip", {"good": "good", name: "evil"})
    message = re.escape(f"holds {name!r}, which would land outside the folder; nothing was unpacked")
    with pytest.raises(ValueError, match=message):
        unpack(archive, tmp_path / "folder")
    assert names(tmp_path) == ["a.zip"]


def test_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(link, "/etc")
    with pytest.raises(
        ValueError, match="holds the link 'link', which may lead outside; nothing was unpacked"
    ):
        unpack(tmp_path / "a.zip", tmp_path / "folder")
    assert names(tmp_path) == ["a.zip"]


def test_a_broken_archive_leaves_nothing(tmp_path):
    archive = archive_of(tmp_path / "a.zip", {"a.txt": "good", "b.bin": BODY})
    data = bytearray(archive.read_bytes())
    # Flips a byte within what is stored of b.bin, behind the header of 30 bytes and the name.
    data[data.index(b"b.bin") + 5000] ^= 1
    archive.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.zip is no sound zip archive"):
        unpack(archive, tmp_path / "folder")
    archive_of(archive, {"a.txt": "good " * 1000})
    data = bytearray(archive.read_bytes())
    # Behind the header of 30 bytes and the name, a kind of block that does not exist.
    data[35] = 0xFF
    archive.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.zip is no sound zip archive"):
        unpack(archive, tmp_path / "folder")
    archive.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"a\.zip is no sound zip archive"):
        unpack(archive, tmp_path / "folder")
    with pytest.raises(ValueError, match=r"b\.zip has no folder top; nothing was unpacked"):
        unpack(archive_of(tmp_path / "b.zip", {"a.txt": "a"}), tmp_path / "folder", inner="top")
    assert names(tmp_path) == ["a.zip", "b.zip"]
