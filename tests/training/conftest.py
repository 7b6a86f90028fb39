"""Models and clips that the tests of training share."""

import pandas as pd
import pytest
from tiny import TinyPublished, write_clips


@pytest.fixture
def tiny_published() -> TinyPublished:
    """A published model of a few hundred weights, with dropout in its heads."""
    return TinyPublished()


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> pd.DataFrame:
    """A clips table with its files; tests that change a file copy the folder ``clips`` first."""
    return write_clips(tmp_path_factory.mktemp("recorded") / "clips")
