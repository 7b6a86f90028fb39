"""A made-up run on disk, shared by the tests of the reporting room."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import made_up


@pytest.fixture
def summary() -> dict:
    """A made-up summary that the test may change."""
    return made_up.summary()


@pytest.fixture(scope="session")
def parquet() -> None:
    """Skip where no parquet engine can be imported, as pandas decides it."""
    try:
        pd.io.parquet.get_engine("auto")
    except ImportError as error:
        pytest.skip(f"pandas has no usable parquet engine: {str(error).splitlines()[-2]}")


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty root for all outputs."""
    monkeypatch.setenv("TCLAP_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def run(root, parquet) -> Path:
    """A complete made-up run in the place where a real one would be."""
    return made_up.write(root / "runs" / "synthetic" / "compact")
