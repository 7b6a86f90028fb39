"""The kernel of a notebook, or the process of a step: threads, figures, log lines."""

from __future__ import annotations

import logging
import os
import sys

import matplotlib.style
import pandas as pd
import torch

from figures.style import SHEET
from tclap.progress import is_batch, made


class _Lines(logging.Formatter):
    """The message; of a warning also that it is one, by which the terminal of a run picks it out."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{record.levelname}: {text}" if record.levelno >= logging.WARNING else text


def set_up(threads: int) -> None:
    """Set the threads torch computes with and the paper's style of figures.

    A batch run shows all log lines, a notebook those of :func:`~tclap.progress.log_reused` alone.
    """
    matplotlib.style.use(["default", str(SHEET)])
    pd.set_option("display.max_colwidth", None)
    pd.set_option("display.max_rows", 100)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if is_batch():
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(_Lines())
        logging.basicConfig(level=logging.INFO, handlers=[handler])
        for noisy in ("papermill", "httpx", "matplotlib"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    elif not made.handlers:
        made.addHandler(logging.StreamHandler(sys.stdout))
        made.setLevel(logging.INFO)
