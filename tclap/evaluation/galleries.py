"""The galleries that retrieval searches: single clips, overlaps, and composites of both orders."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from tclap.data.composites import PROMPT, phrases
from tclap.evaluation import retrieval
from tclap.evaluation.embedded import Embedded

KS = (1, 5, 10)


def retrieval_rows(embedded: Embedded, clips: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`tclap.evaluation.retrieval.query_rows`, for all galleries and both directions.

    ``singles``: the clips and their labels' prompts. ``overlaps``: each pair's overlap and "X and Y".
    ``ordered``: the forward, reversed and overlap composites of all pairs in one gallery, the hard
    test of order; an item with equal events is a hit.
    """
    labels = sorted(clips["label"].unique())
    pair_sources = pairs[["source_i", "source_j"]].to_numpy(dtype=object)

    def gallery(
        name: str, captions: dict[str, str], names: list[str], events: list[str], sources
    ) -> pd.DataFrame:
        # A text query is its caption: it has no source clip.
        return retrieval.query_rows(
            embedded.captions(list(captions)),
            embedded.sounds(names),
            list(captions.values()),
            events,
            gallery=name,
            audio_sources=sources,
        )

    singles = gallery(
        "singles",
        {PROMPT.format(label): label for label in labels},
        list(clips["clip_id"]),
        list(clips["label"]),
        clips["source"].to_numpy(dtype=object),
    )
    together = [tuple(sorted(p)) for p in zip(pairs["label_i"], pairs["label_j"], strict=True)]
    overlaps = gallery(
        "overlaps",
        {PROMPT.format(f"{a} and {b}"): f"{a} & {b}" for a, b in together},
        [f"{p}/overlap" for p in pairs["pair_id"]],
        [f"{a} & {b}" for a, b in together],
        pair_sources,
    )
    captions, names, events, sources = {}, [], [], []
    for pair, source in zip(pairs.to_dict("records"), pair_sources, strict=True):
        for view, words in phrases(pair["label_i"], pair["label_j"], pair["sigma"]).items():
            captions[words.text()] = words.events
            names.append(f"{pair['pair_id']}/{view}")
            events.append(words.events)
            sources.append(source)
    ordered = gallery("ordered", captions, names, events, np.array(sources, dtype=object))
    return pd.concat([singles, overlaps, ordered], ignore_index=True)


def hit_rows(queries: pd.DataFrame) -> pd.DataFrame:
    """Query rows as item rows, so that they can be summarised with all others.

    ``task`` is ``retrieval: <gallery>, <direction>, R@k``, ``correct`` whether the first k hold a hit;
    and ``..., mAP@10``, where ``correct`` is the average precision. A text query has no source clip and
    is its own.
    """
    parts = []
    measures = {f"R@{k}": (queries["rank"] <= k, partial(retrieval.chance, k=k)) for k in KS}
    measures[f"mAP@{retrieval.DEPTH}"] = (queries["average_precision"], retrieval.chance_precision)
    own = queries["gallery"] + " query " + queries["query"].astype(str)
    items = queries["gallery"] + " " + queries["query"].astype(str)
    for measure, (score, chance) in measures.items():
        parts.append(
            pd.DataFrame(
                {
                    "task": [
                        f"retrieval: {g}, {d.replace('_', ' ')}, {measure}"
                        for g, d in zip(queries["gallery"], queries["direction"], strict=True)
                    ],
                    "item": items,
                    "source_a": queries["source_a"].where(queries["source_a"].notna(), own),
                    "source_b": queries["source_b"],
                    "correct": score.astype(float),
                    "chance": [
                        chance(n, r)
                        for n, r in zip(queries["gallery_size"], queries["relevant"], strict=True)
                    ],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
