from __future__ import annotations

import pandas as pd

from artifact.prompts import PREFIX, PROMPTS, build_items
from tclap.data.captions import SINGLE
from tclap.evaluation.tasks import ITEM_COLUMNS

CLIPS = pd.DataFrame({"clip_id": ["x", "y"], "label": ["sea waves", "dog"], "source": ["s", "t"]})


def test_the_papers_five_wordings():
    assert PROMPTS == (
        "i can hear {}",
        "this is an audio of {}",
        "{}",
        "this is {}",
        "this is a sound of {}",
    )
    assert sorted(p.format("dog") for p in PROMPTS) == sorted(s.format(a="dog") for s in SINGLE)


def test_every_clip_in_every_wording():
    items = build_items(CLIPS, ("dog", "sea waves"))
    assert list(items.columns) == list(ITEM_COLUMNS) and len(items) == 10
    assert items["task"].tolist() == [PREFIX + p for p in PROMPTS for _ in range(2)]
    for prompt, group in items.groupby("task"):
        words = prompt.removeprefix("prompt: ")
        assert group["candidates"].tolist() == [[words.format("dog"), words.format("sea waves")]] * 2
        assert group["answers"].tolist() == [[1], [0]]
        assert group[["item", "audio", "source_a"]].to_numpy().tolist() == [["x", "x", "s"], ["y", "y", "t"]]
        assert (group["chance"] == 0.5).all() and group["source_b"].isna().all()
