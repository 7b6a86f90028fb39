"""Prompt sensitivity: task 1 in five wordings (the paper's Table I)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tclap.evaluation.tasks import ITEM_COLUMNS, classification_items

PROMPTS = (
    "i can hear {}",
    "this is an audio of {}",
    "{}",
    "this is {}",
    "this is a sound of {}",
)
PREFIX = "prompt: "


def build_items(clips: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Task 1's items in every prompt; the task is named ``prompt: `` and the wording."""
    items = [
        item
        for prompt in PROMPTS
        for item in classification_items(clips, list(labels), prompt, PREFIX + prompt)
    ]
    return pd.DataFrame(items, columns=list(ITEM_COLUMNS))
