"""The notebook that needs the package alone, ``notebooks/try_it.ipynb``: its cells, one after the other."""

import os
import re
import sys

import IPython.display
import nbformat
import numpy as np
import pytest
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell

from artifact import paths
from tclap import audio
from tclap.data.datasets.synthetic import RATE, synthesise

BOOK = nbformat.read(paths.CHECKOUT / "notebooks" / "try_it.ipynb", as_version=4)
CODE = [cell for cell in BOOK.cells if cell.cell_type == "code"]


def test_it_is_committed_clean_and_imports_what_the_package_brings():
    nbformat.validate(BOOK)
    assert not any(cell.outputs or cell.execution_count for cell in CODE)
    imported = re.findall(r"^ *(?:import|from) (\w+)", "\n".join(cell.source for cell in CODE), re.M)
    assert set(imported) - sys.stdlib_module_names == {"IPython", "numpy", "pandas", "tclap"}


def test_binder_has_the_torch_of_the_lock():
    words = (paths.CHECKOUT / "binder" / "requirements.txt").read_text().split()
    (torch,) = (word for word in words if word.startswith("torch"))
    assert torch in (paths.CHECKOUT / "requirements.lock").read_text().split()
    assert os.access(paths.CHECKOUT / "binder" / "postBuild", os.X_OK)


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """The results of the cells, and what they displayed, with a recording of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(HistoryManager, "enabled", False)
    shown: list = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    both = [synthesise(name, np.random.default_rng(1)) for name in ("rain", "dog")]
    audio.write_wav("mine.wav", np.concatenate(both), RATE)
    shell, results = InteractiveShell(), []
    for cell in CODE:
        source = cell.source.replace('recording = ""', 'recording = "mine.wav"')
        done = shell.run_cell(source)
        done.raise_error()
        results.append(done.result)
    return [result for result in results if result is not None], shown


def test_the_true_caption_is_the_nearest_in_each_recording(ran):
    (*_, plain, readings, slots, measures), (*players, mine, answers) = ran
    for table in (plain, slots):
        assert table.to_numpy().argmax(1).tolist() == [0, 1, 2], table
    assert [reading.relation for reading in readings] == ["forward", "forward", "together"]
    accuracy = measures.set_index("task")["accuracy"]
    assert accuracy["2way_before"] > 75 and (measures["n"] >= 24).all()
    assert len(players) == 3 and all(player.data[:4] == b"RIFF" for player in [*players, mine])
    assert answers.idxmax() == "rain before a dog"
