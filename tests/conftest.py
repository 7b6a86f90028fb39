"""Fixtures that more than one test module uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# One thread a process: the tests compute little, and two cores with four threads crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TCLAP_BATCH"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def esc50_root() -> Path:
    """Real ESC-50 clips: where ESC50_ROOT points, or in ``shared/esc50`` beside the checkout."""
    root = Path(os.environ.get("ESC50_ROOT") or CHECKOUT.parent / "shared" / "esc50")
    if not (root / "meta" / "esc50.csv").is_file():
        pytest.skip(f"no ESC-50 clips in {root}; set ESC50_ROOT to run this test")
    return root


@pytest.fixture
def project_root(tmp_path, monkeypatch) -> Path:
    """A folder of its own for everything a test writes."""
    monkeypatch.setenv("TCLAP_ROOT", str(tmp_path))
    return tmp_path
