"""pyproject.toml, requirements.lock, environment.yml and what names the version say the same."""

import re
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import tclap
from artifact import paths

LOCK = paths.CHECKOUT / "requirements.lock"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    lines = [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line) for line in lines), "only exact pins"
    return {canonical(name): version for name, version in (line.split("==") for line in lines)}


def wanted() -> set[str]:
    project = tomllib.loads((paths.CHECKOUT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return {canonical(re.match(r"[A-Za-z0-9._-]+", entry)[0]) for group in groups for entry in group}


def conda() -> dict[str, str | None]:
    entries = yaml.safe_load((paths.CHECKOUT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    plain = [entry for entry in entries if isinstance(entry, str)] + pip
    split = [re.split("=+", entry, maxsplit=1) for entry in plain]
    return {canonical(parts[0]): parts[1] if len(parts) > 1 else None for parts in split}


def test_every_dependency_is_locked_and_in_the_conda_environment():
    assert wanted() - locked().keys() == set()
    assert wanted() - conda().keys() == set()
    assert locked()["torch"] == "2.13.0"


def test_conda_versions_are_the_locked_ones():
    versions = {name: v for name, v in conda().items() if name not in ("python", "pip")}
    assert versions == {name: locked()[name] for name in versions}
    assert versions.keys() == wanted(), "nothing that pyproject does not ask for"


def test_the_installed_versions_are_the_locked_ones():
    names = wanted()
    assert {n: metadata.version(n).split("+")[0] for n in names} == {n: locked()[n] for n in names}


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0"])
def test_the_locked_versions_run_on_each_python_that_make_takes(python):
    asked = {name: metadata.metadata(name).get("Requires-Python") or "" for name in locked()}
    assert {name: spec for name, spec in asked.items() if not SpecifierSet(spec).contains(python)} == {}


def test_the_version_is_the_same_everywhere():
    citation, readme, changes, project = (
        (paths.CHECKOUT / name).read_text(encoding="utf-8")
        for name in ("CITATION.cff", "README.md", "CHANGELOG.md", "pyproject.toml")
    )
    named = [
        yaml.safe_load(citation)["version"],
        re.search(r"version = \{(.+?)\}", readme)[1],
        re.search(r"^## \[(.+?)\]", changes, re.M)[1],
        tomllib.loads(project)["project"]["version"],
    ]
    assert named == [tclap.__version__] * 4
