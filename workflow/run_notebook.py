"""Run one notebook with papermill: ``run_notebook.py NOTEBOOK OUTPUT [NAME=JSON ...]``.

Keeps the executed copy as ``OUTPUT``; a failed run keeps its own with ``.failed`` before the suffix, and says
in one sentence what went wrong.
"""

import json
import logging
import os
import sys
from pathlib import Path

import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillException, PapermillExecutionError

# The kernel logs warnings of its socket and of being interrupted, and at times, while it stops, that
# its socket has gone (tornado.general, on stderr): errors of the notebook come by the notebook itself.
QUIET_KERNEL = [
    "--log-level=CRITICAL",
    "--IPKernelApp.exec_lines=import logging; logging.getLogger('tornado').setLevel('CRITICAL')",
]


def run(notebook: Path, output: Path, parameters: dict) -> None:
    """Execute; raises what papermill raises."""
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
    os.replace(failed, output)


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
