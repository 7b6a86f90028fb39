"""Run one notebook with papermill: ``run_notebook.py NOTEBOOK OUTPUT [NAME=JSON ...]``.

Keeps the executed copy as ``OUTPUT`` and, beside it, as HTML; a failed run keeps its copy as
``OUTPUT`` with ``.failed`` before the suffix, and says in one sentence what went wrong.
"""

import copy
import json
import logging
import os
import sys
from pathlib import Path

import formulas
import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillException, PapermillExecutionError

from tclap import files

# The kernel logs warnings of its socket and of being interrupted, and at times, while it stops, that
# its socket has gone (tornado.general, on stderr): errors of the notebook come by the notebook itself.
QUIET_KERNEL = [
    "--log-level=CRITICAL",
    "--IPKernelApp.exec_lines=import logging; logging.getLogger('tornado').setLevel('CRITICAL')",
]
# JupyterLab's look without the scripts that it asks other hosts for: no output here needs them.
PAGE = """{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js_requirejs -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
"""


def run(notebook: Path, output: Path, parameters: dict) -> None:
    """Execute and convert; raises what papermill raises."""
    failed = output.with_suffix(".failed" + output.suffix)
    failed.parent.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(
        notebook,
        failed,
        parameters=parameters,
        cwd=notebook.parent,
        kernel_name="python3",
        progress_bar=False,
        log_output=True,
        extra_arguments=QUIET_KERNEL,
    )
    executed = nbformat.read(failed, as_version=4)
    with files.replacing(output.with_suffix(".html")) as temporary:
        temporary.write_text(page(executed, output.stem), encoding="utf-8")
    os.replace(failed, output)


def page(executed: nbformat.NotebookNode, title: str) -> str:
    """An executed notebook as HTML that asks no other host for anything."""
    shown = copy.deepcopy(executed)
    for cell in shown.cells:
        if cell.cell_type == "markdown":
            cell.source = formulas.in_text(cell.source)
    exporter = HTMLExporter(embed_images=True, raw_template=PAGE)
    body, _ = exporter.from_notebook_node(shown, resources={"metadata": {"name": title}})
    return body


def main(arguments: list[str]) -> int:
    """Parse the command line and return the exit code."""
    notebook, output = (Path(argument).resolve() for argument in arguments[:2])
    parameters = {name: json.loads(value) for name, _, value in (a.partition("=") for a in arguments[2:])}
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    logging.getLogger("papermill").setLevel(logging.INFO)
    try:
        run(notebook, output, parameters)
    except PapermillException as error:
        said = f"{error.ename}: {error.evalue}" if isinstance(error, PapermillExecutionError) else error
    except DeadKernelError:
        said = "its kernel was killed, perhaps for want of memory"
    else:
        return 0
    sys.stderr.write(f"error in {' '.join([notebook.stem, *arguments[2:]])}: {said}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
