import html
import re

from artifact import paths
from figures import maps

PROJECT = """
[tool.importlinter]
root_packages = ["lib", "runs", "plots"]

[[tool.importlinter.contracts]]
name = "Layers"
type = "layers"
layers = ["lib.cli", "lib.a | lib.b", "lib.base"]

[[tool.importlinter.contracts]]
name = "Plots know no library"
type = "forbidden"
source_modules = ["plots"]
forbidden_modules = ["lib", "torch"]
"""
RULEGRAPH = """digraph snakemake_dag {
    0[label = "all", color = "0.00 0.6 0.85", style="rounded"];
    1[label = "train", color = "0.09 0.6 0.85", style="rounded"];
    12[label = "plot_it", color = "0.04 0.6 0.85", style="rounded"];
    12 -> 0
    1 -> 12
}
"""


def edges(lines: list[str]) -> set[str]:
    return {re.sub(r" \[.*|[ \"]", "", line) for line in lines if "->" in line}


def drawn(svg: str) -> set[str]:
    """The arrows of a picture, which Graphviz names."""
    titles = map(html.unescape, re.findall("<title>(.*?)</title>", svg))
    return {title for title in titles if "->" in title}


def test_layers_are_those_of_the_contracts():
    lines = maps.layers(PROJECT)
    inside = {"lib.cli->lib.a", "lib.cli->lib.b", "lib.a->lib.base", "lib.b->lib.base"}
    assert edges(lines) == inside | {"runs->lib.cli"}
    assert 'subgraph cluster_2 { label="Plots know no library"; plots }' in lines


def test_a_rule_points_to_what_needs_it():
    assert edges(maps.rules(RULEGRAPH)) == {"train->plot_it"}


def test_the_picture_of_the_layers_is_up_to_date():
    project = (paths.CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    assert drawn(maps.LAYERS.read_text(encoding="utf-8")) == edges(maps.layers(project))
