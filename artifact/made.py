"""What was made, and from what, by content: a stamp is a JSON file beside its products.

It holds a fingerprint, which is the hash of everything that the products are a function of, and the hash of
each product. Modification times decide nothing. The workflow, the notebooks and Python read the same stamps;
the workflow writes its own by ``python -m artifact.made STAMP FINGERPRINT PRODUCT...``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tclap import files
from tclap.progress import log_reused

if TYPE_CHECKING:
    import pandas as pd


def is_current(stamp: Path, fingerprint: str) -> bool:
    """Whether the products of ``stamp`` were made under ``fingerprint`` and have the bytes they had then."""
    try:
        found = json.loads(stamp.read_text(encoding="utf-8"))
        products = {stamp.parent / name: sha256 for name, sha256 in found["products"].items()}
        return found["fingerprint"] == fingerprint and all(
            files.sha256_file(path) == sha256 for path, sha256 in products.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing, or a damaged stamp
        return False


def write(stamp: Path, fingerprint: str, products: Iterable[Path], **more: Any) -> None:
    """Write the stamp of products that are complete, and what ``more`` it shall say."""
    hashes = {os.path.relpath(path, stamp.parent): files.sha256_file(path) for path in products}
    files.write_json(stamp, {"fingerprint": fingerprint, "products": hashes} | more)


class Stamp:
    """The stamp at ``path`` of ``what`` is made from ``inputs``, plain values."""

    def __init__(self, path: Path, what: str, inputs: Mapping[str, Any]) -> None:
        self.path, self.folder, self.what, self.inputs = path, path.parent, what, inputs
        self.fingerprint = files.hash_json(inputs)

    def is_current(self) -> bool:
        """Whether the products are there and made from the same inputs; logs that they are reused."""
        if not is_current(self.path, self.fingerprint):
            return False
        log_reused(self.what)
        return True

    def write(self, tables: Mapping[str, pd.DataFrame], *others: Path) -> None:
        """Write tables beside the stamp, as ``<name>.parquet``, and the stamp of these and other products."""
        for name, table in tables.items():
            files.write_table(self.folder / f"{name}.parquet", table)
        products = [*(self.folder / f"{name}.parquet" for name in tables), *others]
        write(self.path, self.fingerprint, products, inputs=self.inputs)


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2], [Path(name) for name in sys.argv[3:]])
