"""Rows of numbers on disk, by the hash of what they were made of: where trunk outputs are kept.

``python -m tclap.training.store`` tells how much is kept, and with ``clear`` deletes it.
"""

from __future__ import annotations

import json
import logging
import math
import time
import uuid
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tclap import files
from tclap.progress import progress

log = logging.getLogger(__name__)

DTYPES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32"}
"""What rows may be kept in, and what safetensors calls it."""


def content_key(*parts: Any) -> str:
    """SHA-256, in hexadecimal, of plain values: the key of a row that is made of nothing else.

    Raises TypeError or ValueError for what JSON cannot hold.
    """
    return files.hash_json(parts)


class RowFile:
    """Rows of values by key in one safetensors file, each with a checksum.

    The tensor ``values`` holds the flattened rows one after the other. The metadata entry ``rows`` is
    the CRC-32 (eight hexadecimal digits) and the text of their table: a list each of ``keys``,
    ``shapes`` and ``crc32``.

    Raises:
        ValueError: the file is damaged or keeps another dtype.
        OSError: there is no such file, or it cannot be read.
    """

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        damaged = ValueError(f"{path} is damaged: expected rows of {dtype_name(dtype)}")
        try:
            with safe_open(path, "pt") as file:
                entry = (file.metadata() or {}).get("rows", "")
                values = file.get_slice("values")
                kind = (values.get_dtype(), values.get_shape())
        except SafetensorError as error:
            raise damaged from error
        if entry[:8] != _crc(entry[8:].encode()):
            raise damaged
        table = json.loads(entry[8:])
        self.path, self.dtype = path, dtype
        self.keys: list[str] = table["keys"]
        self.shapes: list[tuple[int, ...]] = [tuple(shape) for shape in table["shapes"]]
        sizes = [math.prod(shape) * dtype.itemsize for shape in self.shapes]
        if kind != (DTYPES[dtype], [sum(sizes) // dtype.itemsize]):
            raise damaged
        self._checksums = table["crc32"]
        self._bounds = np.cumsum([path.stat().st_size - sum(sizes), *sizes]).tolist()
        self._sound: set[int] = set()
        self._map: np.memmap | None = None

    @staticmethod
    def write(path: Path, rows: Mapping[str, Tensor]) -> None:
        """Write rows (contiguous, on the CPU, of one dtype) in one step; OSError when there is no room."""
        values = torch.cat([row.reshape(-1) for row in rows.values()])
        table = {
            "keys": list(rows),
            "shapes": [list(row.shape) for row in rows.values()],
            "crc32": [_crc(row.reshape(-1).view(torch.uint8).numpy()) for row in rows.values()],
        }
        text = json.dumps(table)
        try:
            with files.replacing(path) as temporary:
                # One entry: safetensors writes several in random order, and the same rows shall
                # give the same bytes.
                save_file({"values": values}, temporary, {"rows": _crc(text.encode()) + text})
        except (OSError, SafetensorError) as error:
            raise OSError(f"{path.parent} did not take the {values.nbytes} bytes needed: {error}") from error

    def sound(self, rows: Sequence[int]) -> list[int]:
        """Those of these rows that are as they were written; only they may be read.

        Raises OSError when the file is gone or cannot be read.
        """
        unchecked = [row for row in rows if row not in self._sound]
        if unchecked:
            with open(self.path, "rb") as file:
                # Read instead of mapped: checking a whole shard must not make it resident.
                for row in unchecked:
                    start, end = self._bounds[row : row + 2]
                    file.seek(start)
                    if _crc(file.read(end - start)) == self._checksums[row]:
                        self._sound.add(row)
                if self._map is None and self._sound:
                    self._map = np.memmap(file, np.uint8, "r")
        return [row for row in rows if row in self._sound]

    def row(self, row: int, out: Tensor | None = None) -> Tensor:
        """A copy of a sound row in the file's dtype; ``out`` is contiguous."""
        out = torch.empty(self.shapes[row], dtype=self.dtype) if out is None else out
        out.flatten().view(torch.uint8).numpy()[:] = self._map[self._bounds[row] : self._bounds[row + 1]]
        return out


class StoredRows:
    """Rows on disk, in the order they were asked for, mapped into memory.

    Reading touches only the bytes of the rows asked for; the system drops them again when it needs
    the memory. ``dtype`` is what is kept; what is returned is float32.
    """

    def __init__(self, places: list[tuple[RowFile, int]], dtype: torch.dtype) -> None:
        self._places = places
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self._places)

    def row(self, index: int) -> Tensor:
        """One row ``[T, D]``, float32."""
        file, row = self._places[index]
        return file.row(row).float()

    def __getitem__(self, indices: Sequence[int] | np.ndarray | slice) -> Tensor:
        """Rows ``[n, T, D]``, float32.

        Raises IndexError for what is out of range, TypeError for a single index, and ValueError for
        rows of more than one shape.
        """
        positions = np.arange(len(self))[indices]
        if positions.ndim != 1:
            raise TypeError("rows are indexed by a list, an array or a slice; row(i) gives a single one")
        places = [self._places[position] for position in positions]
        shapes = {file.shapes[row] for file, row in places or self._places}
        if len(shapes) != 1:
            raise ValueError(f"rows of one shape were expected, got {sorted(shapes)}; read them with row(i)")
        values = torch.empty((len(places), *shapes.pop()), dtype=self.dtype)
        for place, (file, row) in zip(values, places, strict=True):
            file.row(row, out=place)
        return values.float()


class FeatureStore:
    """Trunk outputs on disk, by content.

    Any number of processes may read and write the same folder at once: each writes shards under
    names of its own, and a row that two of them made does no harm.

    Args:
        folder: where everything is kept, in a folder a dtype.
        dtype: what rows are rounded to: float16, bfloat16 or float32.

    Raises:
        ValueError: on any other dtype.
    """

    # A shard is written when it is as large as this, so that a crash costs little work.
    SHARD_BYTES, SHARD_ROWS = 64 * 2**20, 2048

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        self.folder, self.dtype = Path(folder) / dtype_name(dtype), dtype
        self._files: dict[tuple[Path, int, int], RowFile] = {}
        self._scan()

    def fetch(
        self,
        keys: Sequence[str],
        make: Callable[[list[int]], Tensor | Sequence[Tensor]],
        *,
        what: str,
        batch: int = 32,
    ) -> StoredRows:
        """The rows of these keys; those not kept yet are made first and kept.

        Args:
            keys: one of :func:`content_key` an item; the same one may come more than once.
            make: positions in ``keys`` to their rows, ``[n, T, D]`` or n times ``[T, D]``; asked for
                each missing key once, in order, ``batch`` at a time.
            what: what is being made, for the progress bar.

        All rows asked for are checked here, so that a damaged one is noticed, logged and made again
        before anything is computed with it.

        Raises:
            ValueError: ``make`` returned something else, or values too large for the dtype.
            OSError: the disk is full; what was written before stays.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        first: dict[str, int] = {}
        for position, key in enumerate(keys):
            first.setdefault(key, position)
        found = self._find(first.keys())
        missing = [position for key, position in first.items() if key not in found]
        starts = range(0, len(missing), batch)
        made: dict[str, Tensor] = {}
        try:
            for start in progress(starts, what, quiet=len(starts) < 8):
                positions = missing[start : start + batch]
                rows = make(positions)
                if len(rows) != len(positions) or any(row.ndim != 2 for row in rows):
                    shapes = [list(row.shape) for row in rows]
                    raise ValueError(f"{what}: expected {len(positions)} rows [T, D], got shapes {shapes}")
                made |= {keys[p]: kept(row, self.dtype) for p, row in zip(positions, rows, strict=True)}
                size = sum(row.nbytes for row in made.values())
                if size >= self.SHARD_BYTES or len(made) >= self.SHARD_ROWS:
                    shard, made = made, {}
                    found |= self._write(shard)
        finally:
            # After an error or an interruption, too: what has been made is worth keeping.
            found |= self._write(made)
        return StoredRows([found[key] for key in keys], self.dtype)

    def size(self) -> int:
        """Bytes on disk."""
        return sum(size for _, size in self._on_disk())

    def clear(self) -> int:
        """Delete everything kept in this dtype and return the bytes freed.

        Rows already fetched stay readable (on POSIX).
        """
        freed = 0
        for path, size in self._on_disk():
            path.unlink(missing_ok=True)
            freed += size
        # The folder stays where something else is in it.
        with suppress(OSError):
            self.folder.rmdir()
        self._files = {}
        return freed

    def describe(self) -> str:
        """How much is kept, and where."""
        files = self._scan()
        rows = len({key for file in files for key in file.keys})
        return f"{rows} rows in {len(files)} files, {_megabytes(self.size())}, in {self.folder}"

    def _on_disk(self) -> Iterator[tuple[Path, int]]:
        # With the hidden temporary files of writers that were killed.
        for path in self.folder.glob("*.safetensors"):
            with suppress(FileNotFoundError):
                yield path, path.stat().st_size

    def _scan(self) -> list[RowFile]:
        """All readable shards, the newest first."""
        files = {}
        for path in sorted(self.folder.glob("[!.]*.safetensors"), reverse=True):
            try:
                stat = path.stat()
                # A file that changed under its name is checked anew.
                stamp = (path, stat.st_size, stat.st_mtime_ns)
                files[stamp] = self._files.get(stamp) or RowFile(path, self.dtype)
            except FileNotFoundError:
                continue  # cleared by another process
            except ValueError:
                log.warning("%s is damaged and deleted; its rows are computed again when needed", path)
                with suppress(OSError):
                    path.unlink()
            except OSError as error:
                log.warning("%s cannot be read (%s); its rows are computed again when needed", path, error)
        self._files = files
        return list(files.values())

    def _find(self, keys: Collection[str]) -> dict[str, tuple[RowFile, int]]:
        found: dict[str, tuple[RowFile, int]] = {}
        # The newest first: what replaces a damaged row is found before it.
        for file in self._scan():
            rows = [row for row, key in enumerate(file.keys) if key in keys and key not in found]
            try:
                sound = file.sound(rows)
            except OSError:
                sound = []
            if len(sound) < len(rows):
                log.warning(
                    "%s: %d of %d rows are damaged and not used", file.path, len(rows) - len(sound), len(rows)
                )
            found |= {file.keys[row]: (file, row) for row in sound}
        return found

    def _write(self, rows: Mapping[str, Tensor]) -> dict[str, tuple[RowFile, int]]:
        if not rows:
            return {}
        # Sorted by name, the newest is the last.
        path = self.folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.safetensors"
        RowFile.write(path, rows)
        file = RowFile(path, self.dtype)
        if len(file.sound(range(len(rows)))) < len(rows):
            raise OSError(f"{path} does not hold what was just written to it; check the disk")
        return {key: (file, row) for row, key in enumerate(file.keys)}


def dtype_name(dtype: torch.dtype) -> str:
    """What a dtype is called in folder and file names; ValueError where rows are not kept in it."""
    names = {known: str(known).removeprefix("torch.") for known in DTYPES}
    if dtype not in names:
        raise ValueError(f"rows are kept in {', '.join(names.values())}, not in {dtype}")
    return names[dtype]


def _crc(content: bytes | np.ndarray) -> str:
    return f"{zlib.crc32(content):08x}"


def kept(row: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous copy on the CPU in a dtype; ValueError where a value is too large for it."""
    # A copy in any case: a view would keep its whole batch alive, and change with it.
    row = row.detach().cpu()
    kept = row.to(dtype, copy=True, memory_format=torch.contiguous_format)
    if kept.isinf().any() and not row.isinf().any():
        largest = row.abs().max().item()
        raise ValueError(f"a trunk output of {largest:g} is too large for {dtype}; use another dtype")
    return kept


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def report(*, clear: bool = False) -> str:
    """What the stores in the data folder hold, in a line each; with ``clear`` what was freed of them."""
    folder = files.data_folder() / "features"
    stores = [FeatureStore(folder, dtype) for dtype in DTYPES]
    if clear:
        return f"{_megabytes(sum(store.clear() for store in stores))} freed in {folder}\n"
    return "".join(f"{store.describe()}\n" for store in stores)
