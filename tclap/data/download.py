"""Downloads that end well or not at all: checked, and never a half-written file in place."""

from __future__ import annotations

from pathlib import Path

import pooch

from tclap.progress import is_batch


def fetch(url: str, path: str | Path, known_hash: str) -> Path:
    """Download ``url`` to ``path`` and return it; a file that is there already is kept if its hash is right.

    ``known_hash``: "md5:…" or "sha256:…". Raises ValueError when what arrives has another hash (it is
    removed), OSError when the server refuses or the connection fails.
    """
    path = Path(path)
    downloader = pooch.HTTPDownloader(progressbar=not is_batch())
    pooch.retrieve(url, known_hash, fname=path.name, path=path.parent, downloader=downloader)
    return path
