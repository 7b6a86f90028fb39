from __future__ import annotations

from pathlib import Path

import pytest

from artifact import paths

CHECKOUT = Path(__file__).resolve().parents[2]


def test_everything_made_lies_under_the_root(project_root):
    assert paths.root() == project_root.resolve()
    assert paths.features() == project_root / "data/features"
    assert paths.figures() == project_root / "figures"
    assert paths.paper() == project_root / "paper"
    assert paths.run("smoke", "compact") == project_root / "runs/smoke/compact"
    # Profiles are part of the checkout.
    assert paths.configs() == CHECKOUT / "configs"


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_root_the_checkout_is_it(monkeypatch, value):
    monkeypatch.delenv("TCLAP_ROOT", raising=False)
    if value is not None:
        monkeypatch.setenv("TCLAP_ROOT", value)
    assert paths.root() == CHECKOUT


def test_a_relative_root_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TCLAP_ROOT", "out")
    assert paths.root() == tmp_path.resolve() / "out"
