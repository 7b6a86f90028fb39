"""Downloads that end well or not at all: checked, and never a half-written file or folder in place."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import pooch

from tclap.progress import is_batch

SCHEME = "https://"
CHUNK = 1 << 20


def fetch(url: str, path: str | Path, known_hash: str | None = None) -> Path:
    """Download ``url`` to ``path`` and return it.

    A file that is there already is kept, unless its hash differs from ``known_hash`` ("md5:…" or
    "sha256:…"). Without a known hash nothing checks that the file is the one expected.

    Raises ValueError for an address that is not https or leads elsewhere, and when what arrives has another
    hash (it is removed); OSError when the server refuses or the connection fails.
    """
    _require_scheme(url)
    path = Path(path)
    hooks = {"response": lambda answer, **_: _require_scheme(answer.url)}
    downloader = pooch.HTTPDownloader(progressbar=not is_batch(), chunk_size=CHUNK, hooks=hooks)
    pooch.retrieve(url, known_hash, fname=path.name, path=path.parent, downloader=downloader)
    return path


def _require_scheme(url: str) -> None:
    if not url.startswith(SCHEME):
        raise ValueError(f"cannot download {url!r}; expected an address that begins with {SCHEME}")


def unpack(archive: str | Path, folder: str | Path, inner: str = "") -> Path:
    """Unpack a zip archive as the new ``folder`` and return it; all of it or nothing.

    ``inner``: the folder inside the archive that becomes ``folder``; the rest is left out.

    Raises ValueError when the archive is broken, or has no folder ``inner`` or a member outside its folder;
    OSError when ``folder`` exists and is not empty.
    """
    folder = Path(folder).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        # A folder of its own, because only the owner can read the temporary one.
        unpacked = Path(temporary).resolve() / "all"
        try:
            with zipfile.ZipFile(archive) as file:
                for name in file.namelist():
                    if not (unpacked / name).resolve().is_relative_to(unpacked):
                        raise ValueError(f"{archive} holds {name!r}, which would land outside the folder")
                file.extractall(unpacked)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{archive} is not a valid zip archive: {error}") from error
        if not (unpacked / inner).is_dir():
            raise ValueError(f"{archive} has no folder {inner}")
        (unpacked / inner).replace(folder)
    return folder
