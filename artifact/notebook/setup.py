"""The kernel of a notebook, or the process of a step: threads, figures, log lines."""

import logging
import os
import sys

import matplotlib.style
import pandas as pd
import torch

from figures.style import SHEET
from tclap.progress import is_batch, made


def set_up() -> None:
    """Have torch compute with one thread, deterministically, and figures look as the paper's.

    A batch run shows all log lines, a notebook those of :func:`~tclap.progress.log_reused` alone.
    """
    matplotlib.style.use(["default", str(SHEET)])
    pd.set_option("display.max_colwidth", None)
    pd.set_option("display.max_rows", 100)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if is_batch():
        # By the level the terminal of a run picks out warnings.
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s: %(message)s")
        for noisy in ("papermill", "httpx", "matplotlib"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    elif not made.handlers:
        made.addHandler(logging.StreamHandler(sys.stdout))
        made.setLevel(logging.INFO)
