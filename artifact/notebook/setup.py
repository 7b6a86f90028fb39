"""The kernel of a notebook, or the process of a step: threads, figures, log lines."""

from __future__ import annotations

import logging
import os
import sys

from figures.style import SHEET
from tclap.progress import is_batch, made


def set_up(threads: int) -> None:
    """Prepare a notebook's kernel: threads torch computes with, the paper's style of figures, no chatter.

    In a batch run all log lines are shown, else those of :func:`log_reused` alone.
    """
    import matplotlib.style
    import pandas as pd
    import torch

    matplotlib.style.use(["default", str(SHEET)])
    pd.set_option("display.max_colwidth", None)
    pd.set_option("display.max_rows", 100)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if is_batch():
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        for noisy in ("papermill", "httpx", "matplotlib"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    elif not made.handlers:
        made.addHandler(logging.StreamHandler(sys.stdout))
        made.setLevel(logging.INFO)
