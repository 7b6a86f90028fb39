"""Downloads that end well or not at all: resumed, checked, and never a half-written file in place.

What has arrived of a file lies beside it as ``<name>.part``, and ``<name>.part.origin`` says which
version of which address it is of, so that no two versions are ever joined.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import stat
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath, PureWindowsPath

from tclap.progress import progress

log = logging.getLogger(__name__)

CHUNK = 1 << 20
TIMEOUT = 60.0
# Seconds before each further attempt: the first follows at once, for most cuts are momentary.
PAUSES = (0.0, 1.0, 3.0)
# Answers that a later attempt may not get: time-out, too many requests, trouble within the server.
_PASSING = {408, 429, 500, 502, 503, 504}
_RANGE_NOT_SATISFIABLE = 416


def fetch(
    url: str, path: str | Path, *, md5: str | None = None, sha256: str | None = None, what: str
) -> Path:
    """Download ``url`` (http or https) to ``path`` and return it; ``what`` names it in the progress shown.

    A file that is there already is taken as it is, without asking the network, unless its checksum
    differs. A download that was cut is resumed, within this call and by the next one, where the server
    says that the file is still the same or a checksum will tell; else it starts anew. The checksums
    (hexadecimal) are verified before the file gets its name.

    Raises ValueError for another kind of address and for a wrong checksum (what was downloaded is
    removed), ConnectionError when the connection is cut time and again (what has arrived is kept), and
    OSError when the server refuses.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"cannot download {url!r}; expected an address that begins with http:// or https://")
    path = Path(path)
    expected = {"md5": md5, "sha256": sha256}
    expected = {kind: digest.lower() for kind, digest in expected.items() if digest}
    if path.is_file():
        wrong = _wrong_checksum(path, expected)
        if not wrong:
            return path
        log.warning("%s is downloaded anew: its %s", path, wrong)

    path.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(path)
    _receive_all(url, part, bool(expected), what)
    wrong = _wrong_checksum(part.data, expected)
    if wrong:
        part.remove()
        raise ValueError(f"{url} is not the file that was expected: its {wrong}; what arrived was removed")
    os.replace(part.data, path)
    part.remove()
    return path


def _wrong_checksum(path: Path, expected: dict[str, str]) -> str | None:
    for kind, digest in expected.items():
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, kind).hexdigest()
        if found != digest:
            return f"{kind} is {found}, expected {digest}"
    return None


def unpack(archive: str | Path, folder: str | Path, *, inner: str | None = None) -> Path:
    """Unpack a zip archive as the new ``folder`` and return it; all of it or nothing.

    ``inner``: the folder inside the archive that becomes ``folder``; what lies outside it is left out.

    Raises ValueError when it is no sound zip archive, has no folder ``inner``, or has a member that is a
    link or would land outside the folder; FileExistsError when ``folder`` exists and is not empty.
    """
    archive, folder = Path(archive), Path(folder)
    require_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        try:
            with zipfile.ZipFile(archive) as file:
                members = file.infolist()
                for member in members:
                    _require_inside(member, archive)
                for member in progress(members, f"unpacking {archive.name}"):
                    # A folder of its own, because mkdtemp's is for its owner's eyes only.
                    file.extract(member, temporary / "all")
        except (zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{archive} is no sound zip archive: {error}") from error
        unpacked = temporary / "all" / (inner or "")
        if not unpacked.is_dir():
            raise ValueError(f"{archive} has no folder {inner or ''}; nothing was unpacked")
        if folder.is_dir():
            folder.rmdir()
        os.replace(unpacked, folder)
    finally:
        shutil.rmtree(temporary)
    return folder


def require_new(folder: Path) -> None:
    """Raise FileExistsError where ``folder`` is something else than an empty folder or nothing."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty; expected a new or empty folder to unpack into")


def _require_inside(member: zipfile.ZipInfo, archive: Path) -> None:
    name = member.orig_filename
    # Both ways of reading the name, so that an archive is refused on every system or on none.
    for reading in (PurePosixPath(name), PureWindowsPath(name)):
        if reading.anchor or ".." in reading.parts:
            raise ValueError(
                f"{archive} holds {name!r}, which would land outside the folder; nothing was unpacked"
            )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise ValueError(f"{archive} holds the link {name!r}, which may lead outside; nothing was unpacked")


class _Part:
    """What has arrived of a file so far, and the note of what it is of."""

    def __init__(self, path: Path) -> None:
        self.data = path.with_name(path.name + ".part")
        self.origin = path.with_name(path.name + ".part.origin")

    @property
    def size(self) -> int:
        return self.data.stat().st_size if self.data.is_file() else 0

    def validator(self, url: str) -> str | None:
        """What the server is to compare (If-Range), or None where that is not known of this ``url``."""
        try:
            note = json.loads(self.origin.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return note["validator"] if note["url"] == url else None

    def begin(self, url: str, headers: http.client.HTTPMessage) -> None:
        """Forget what there was; the answer with these ``headers`` is the beginning of a new file."""
        self.remove()
        etag = headers.get("ETag", "")
        # A weak ETag does not promise the same bytes (RFC 9110, section 13.1.5).
        validator = etag if etag.startswith('"') else headers.get("Last-Modified")
        self.origin.write_text(json.dumps({"url": url, "validator": validator}))
        self.data.touch()

    def remove(self) -> None:
        self.data.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)


class _Cut(Exception):
    """The connection failed in a way that another attempt may mend."""


def _receive_all(url: str, part: _Part, checked: bool, what: str) -> None:
    for pause in (*PAUSES, None):
        try:
            _receive(url, part, checked, what)
            return
        except _Cut as cut:
            reason = cut
        if pause is not None:
            log.info("%s: %s; trying again", what, reason)
            time.sleep(pause)
    rest = "nothing has arrived; run this again later"
    if part.size and (checked or part.validator(url)):
        rest = f"{part.size} bytes are kept in {part.data}, and running this again goes on from there"
    elif part.size:
        rest = "the server cannot resume this file; running this again starts anew"
    raise ConnectionError(f"{url} could not be downloaded in {len(PAUSES) + 1} attempts ({reason}): {rest}")


def _receive(url: str, part: _Part, checked: bool, what: str) -> None:
    """One attempt to get what is missing of the part; raises _Cut when it is still not all there."""
    answer = _ask(url, part, checked)
    if answer is None:
        return
    with closing(answer):
        if answer.status == http.client.PARTIAL_CONTENT:
            start, total = _content_range(answer)
            if start != part.size:
                part.remove()
                raise _Cut(f"the server sent the file from byte {start} on, which was not asked for")
        else:
            part.begin(url, answer.headers)
            length = answer.headers.get("Content-Length")
            total = int(length) if length else None
        chunks = _chunks(answer)
        if total is not None:
            chunks = _Counted(chunks, -(-(total - part.size) // CHUNK))
        with open(part.data, "ab") as file:
            for chunk in progress(chunks, f"{what} (MiB)"):
                file.write(chunk)
    if total is not None and part.size < total:
        raise _Cut(f"the connection was cut after {part.size} of {total} bytes")


def _ask(url: str, part: _Part, checked: bool) -> http.client.HTTPResponse | None:
    """The server's answer, for the rest of the part where that is safe; None when nothing is missing."""
    headers = {"User-Agent": "tclap"}
    validator = part.validator(url)
    if part.size and (validator or checked):
        headers["Range"] = f"bytes={part.size}-"
        if validator:
            headers["If-Range"] = validator
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _RANGE_NOT_SATISFIABLE and "Range" in headers:
            if error.headers.get("Content-Range") == f"bytes */{part.size}":
                return None
            part.remove()
            raise _Cut("the server has a shorter file than the part that was kept") from error
        said = f"the server answered {error.code} {error.reason}"
        if error.code in _PASSING:
            raise _Cut(said) from error
        raise OSError(f"{url} cannot be downloaded: {said}") from error
    except urllib.error.URLError as error:
        raise _Cut(f"no connection: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"no connection: {error!r}") from error


def _content_range(answer: http.client.HTTPResponse) -> tuple[int | None, int | None]:
    """First byte and length of the whole file, from the header ``Content-Range: bytes 5-9/10``."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
    if not found:
        return None, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = answer.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Cut(f"the connection was cut: {error!r}") from error
        if not chunk:
            return
        yield chunk


class _Counted:
    """Items with the number of them, which the display of progress wants to know."""

    def __init__(self, items: Iterator[bytes], count: int) -> None:
        self._items, self._count = items, count

    def __iter__(self) -> Iterator[bytes]:
        return self._items

    def __len__(self) -> int:
        return self._count
