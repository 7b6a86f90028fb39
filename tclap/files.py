"""Files: written whole or not at all, hashed by content, and the folder where data are kept."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pooch

if TYPE_CHECKING:
    import pandas as pd
    import torch


def data_folder() -> Path:
    """Folder of downloaded and synthesised data: ``$TCLAP_ROOT/data``, else the user's cache folder."""
    root = os.environ.get("TCLAP_ROOT")
    return Path(root).resolve() / "data" if root else Path(pooch.os_cache("tclap"))


def check_writable(folder: str | Path) -> None:
    """Make a folder unless it is there; OSError when no file can be written into it."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"{folder} cannot be written: {error.strerror}.") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path, of the same name, that replaces ``path`` when the block ends well.

    A crash in the block leaves what was at ``path`` before, and no half-written file. What a killed process
    leaves beside it is removed by the next one of this machine that writes into the folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    # A folder, because some writers have temporary files of their own beside the file.
    with tempfile.TemporaryDirectory(prefix=f"{_aside()}{os.getpid()}-", dir=path.parent) as aside:
        temporary = Path(aside, path.name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # some writers make files that only their owner can read
        os.replace(temporary, path)


@cache
def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes of this machine have left aside in a folder; once per process."""
    for aside in folder.glob(f"{_aside()}*") if os.name == "posix" else ():
        try:
            os.kill(int(aside.name.removeprefix(_aside()).partition("-")[0]), 0)  # asks whether it runs
        except ProcessLookupError:
            shutil.rmtree(aside, ignore_errors=True)
        except PermissionError:  # another user's, which runs
            continue


def _aside() -> str:
    """Beginning of the names of folders in which this machine's processes write; the process id follows."""
    return f".aside-{platform.node()}-"


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as parquet, all of it or nothing."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_code(*names: str, root: Path = Path(__file__).parent) -> str:
    """SHA-256 of source files, named relative to ``root`` (the package); of a folder, all that it holds."""
    digest = hashlib.sha256()
    for name in names:
        path = root / name
        sources = (file for file in path.rglob("*") if file.suffix in (".py", ".yaml"))
        for file in sorted(sources) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def hash_json(obj: Any) -> str:
    """SHA-256 of what ``obj`` says as JSON, whatever the order of its keys; refuses NaN."""
    return hashlib.sha256(_json(obj, separators=(",", ":")).encode()).hexdigest()


def hash_state(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of named tensors: names, types, shapes and values, whatever their order or device."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        # Viewed as bytes, because numpy does not know every type that torch has.
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_hashed(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as :func:`write_json` does, with its hash, for :func:`read_hashed`."""
    write_json(path, {**content, "sha256": hash_json(content)})


def read_hashed(path: str | Path) -> dict[str, Any]:
    """What :func:`write_hashed` wrote; ValueError where the file is damaged, edited or another."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop("sha256") == hash_json(content):
            return content
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{path} is damaged, edited or another kind of file: it does not match its hash.")


def write_json(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as JSON with sorted keys, all of it or nothing; arrays become lists, paths strings.

    Raises ValueError for NaN and infinity, TypeError for what JSON cannot hold.
    """
    try:
        text = _json(obj, indent=2)
    except ValueError as error:
        raise ValueError(f"{path} cannot be written: {error}") from error
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _json(obj: Any, **layout: Any) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if hasattr(value, "tolist"):
            return value.tolist()
        raise TypeError(f"{type(value).__name__} cannot be written as JSON; expected plain values")

    return json.dumps(obj, sort_keys=True, allow_nan=False, ensure_ascii=False, default=plain, **layout)
