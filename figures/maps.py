"""Maps of the project as SVG: the rules of a run, and the layers that the import contracts state.

``python -m figures.maps`` writes ``figures/readme_graph.svg`` and ``docs/architecture.svg``, with Graphviz.
"""

import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
GRAPH, LAYERS = CHECKOUT / "figures" / "readme_graph.svg", CHECKOUT / "docs" / "architecture.svg"
RULEGRAPH = "-m snakemake --snakefile workflow/Snakefile --cores 1 --nolock --rulegraph"
# To be read on a light page and on a dark one.
STYLE = """
    graph [bgcolor=transparent, nodesep=0.12, ranksep=0.3, compound=true, style=rounded,
           color="#7f8790", fontcolor="#7f8790", fontname=Helvetica, fontsize=11]
    node [shape=box, style="rounded,filled", color="#4a78a8", fillcolor="#e8eef5",
          fontname=Helvetica, fontsize=11, height=0.3, margin="0.1,0.03"]
    edge [color="#7f8790", arrowsize=0.6]
"""


def rules(rulegraph: str) -> list[str]:
    """Lines of DOT, an edge from a rule to each that needs it, from what ``snakemake --rulegraph`` prints."""
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', rulegraph))
    edges = [(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", rulegraph)]
    return ["rankdir=LR", *(f"{a} -> {b}" for a, b in edges if b != "all")]


def layers(project: str) -> list[str]:
    """Lines of DOT from the contracts in a ``pyproject.toml``: what stands above may import what is below.

    A package that must not import the library stands beside it, under the name of the contract which says so.
    """
    linter = tomllib.loads(project)["tool"]["importlinter"]
    (layered,) = [contract for contract in linter["contracts"] if contract["type"] == "layers"]
    rows = [[f'"{name}"' for name in layer.split(" | ")] for layer in layered["layers"]]
    edges = [f"{above} -> {below}" for upper, lower in pairwise(rows) for above in upper for below in lower]
    lines = [f'subgraph cluster_0 {{ label="{layered["name"]}"', *edges, "}"]
    library, apart = layered["layers"][0].partition(".")[0], set()
    for number, contract in enumerate(linter["contracts"], start=1):
        if library in contract.get("forbidden_modules", []):
            apart |= set(contract["source_modules"])
            names = "; ".join(contract["source_modules"])
            lines.append(f'subgraph cluster_{number} {{ label="{contract["name"]}"; {names} }}')
    above = [name for name in linter["root_packages"] if name not in {library, *apart}]
    return lines + [f"{name} -> {rows[0][0]} [lhead=cluster_0]" for name in above]


def write(path: Path, lines: list[str]) -> None:
    """Draw a map with Graphviz."""
    dot = "\n".join(["digraph {", STYLE, *lines, "}"])
    subprocess.run(["dot", "-Tsvg", "-o", str(path)], input=dot, text=True, check=True)


if __name__ == "__main__":
    command = [sys.executable, *RULEGRAPH.split()]
    write(GRAPH, rules(subprocess.check_output(command, cwd=CHECKOUT, text=True)))
    write(LAYERS, layers((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")))
