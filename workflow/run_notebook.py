"""Run one notebook with papermill: ``run_notebook.py NOTEBOOK OUTPUT [NAME=JSON ...]``.

Keeps the executed copy as ``OUTPUT`` and, beside it, as HTML; a failed run keeps its copy as
``OUTPUT`` with ``.failed`` before the suffix, and says in one sentence what went wrong.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import nbformat
import papermill
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillException, PapermillExecutionError

from tclap import files

# One thread a job, whatever the number of jobs: then a run's numbers do not depend on it.
ENVIRONMENT = {
    "TCLAP_BATCH": "1",
    "TQDM_DISABLE": "1",  # progress is in the log lines
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

# The kernel logs warnings of its socket and of being interrupted, and at times, while it stops, that
# its socket has gone (tornado.general, on stderr): errors of the notebook come by the notebook itself.
QUIET_KERNEL = [
    "--log-level=CRITICAL",
    "--IPKernelApp.exec_lines=import logging; logging.getLogger('tornado').setLevel('CRITICAL')",
]


def run(notebook: Path, output: Path, parameters: dict) -> None:
    """Execute and convert; raises what papermill raises."""
    failed = output.with_suffix(".failed" + output.suffix)
    failed.parent.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(
        str(notebook),
        str(failed),
        parameters=parameters,
        cwd=str(notebook.parent),
        kernel_name="python3",
        progress_bar=False,
        log_output=True,
        extra_arguments=QUIET_KERNEL,
    )
    executed = nbformat.read(failed, as_version=4)
    title = {"metadata": {"name": output.stem}}
    body, _ = HTMLExporter(embed_images=True).from_notebook_node(executed, resources=title)
    with files.replacing(output.with_suffix(".html")) as temporary:
        temporary.write_text(body, encoding="utf-8")
    os.replace(failed, output)


def main(arguments: list[str]) -> int:
    """Parse the command line and return the exit code."""
    os.environ.update(ENVIRONMENT)
    notebook, output = Path(arguments[0]).resolve(), Path(arguments[1]).resolve()
    parameters = {}
    for argument in arguments[2:]:
        name, _, value = argument.partition("=")
        parameters[name] = json.loads(value)
    label = f"{notebook.stem} {' '.join(arguments[2:])}".strip()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(f"[{notebook.stem[:2]}] %(message)s"))
    logger = logging.getLogger("papermill")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler.addFilter(
        lambda record: bool(record.getMessage().strip()) and not _is_chatter(record.getMessage())
    )
    try:
        run(notebook, output, parameters)
    except PapermillExecutionError as error:
        sys.stderr.write(f"error in {label}: {error.ename}: {error.evalue}\n")
        return 1
    except PapermillException as error:
        sys.stderr.write(f"error in {label}: {error}\n")
        return 1
    return 0


def _is_chatter(message: str) -> bool:
    starts = (
        "Executing Cell",
        "Ending Cell",
        "Input Notebook",
        "Output Notebook",
        "Executing notebook",
        "<",
        "Working dir",
    )
    return message.startswith(starts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
