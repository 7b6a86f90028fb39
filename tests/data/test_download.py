from __future__ import annotations

import functools
import hashlib
import http.server
import threading

import pytest

from tclap.data.download import fetch

BODY = bytes(range(256)) * 40
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Address of a server with ``file.zip``."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "file.zip").write_bytes(BODY)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        # Polled often, because closing the server waits for the next poll.
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_file_arrives_whole_and_alone(tmp_path, site):
    path = fetch(f"{site}/file.zip", tmp_path / "new" / "mine.zip", MD5)
    assert path.read_bytes() == BODY and list(path.parent.iterdir()) == [path]
    # A file that is there needs no server, but one with another hash is replaced.
    assert fetch(f"{site}/none", path, MD5) == path
    path.write_bytes(b"old")
    assert fetch(f"{site}/file.zip", path, MD5).read_bytes() == BODY


@pytest.mark.parametrize(("name", "error"), [("file.zip", ValueError), ("gone", OSError)])
def test_what_does_not_arrive_as_expected_leaves_nothing(tmp_path, site, name, error):
    with pytest.raises(error, match="expected md5:0000|404.*gone"):
        fetch(f"{site}/{name}", tmp_path / "new" / "mine.zip", f"md5:{'0' * 32}")
    assert list((tmp_path / "new").iterdir()) == []
