from __future__ import annotations

import numpy as np
import pandas as pd
from meanings import Meanings

from artifact.evaluation import SIMILARITY_PAIRS, similarity_rows


def rows_of(labels) -> pd.DataFrame:
    """Similarities by a model that knows which event comes first."""
    pairs = [{"pair_id": f"p{n}", "label_i": a, "label_j": b} for n, (a, b) in enumerate(labels)]
    sounds = {f"p{n}/forward": {f"{a} before {b}": 1.0} for n, (a, b) in enumerate(labels)}
    sounds |= {f"p{n}/reversed": {f"{b} before {a}": 1.0} for n, (a, b) in enumerate(labels)}
    model = Meanings(sounds, lambda caption: caption.removeprefix("this is a sound of "))
    return similarity_rows(model, pd.DataFrame(pairs))


def test_similarities_of_both_orders_side_by_side():
    # The second repeats the first one's labels: three pairs in two orders are left.
    found = rows_of([("dog", "rain"), ("dog", "rain"), ("rain", "dog"), ("waves", "dog")])
    matrix = found.pivot(index="row", columns="column", values="similarity").to_numpy()
    events = found.drop_duplicates("column")["column_event"].tolist()
    assert events == ["dog > rain", "rain > dog", "rain > dog", "dog > rain", "waves > dog", "dog > waves"]
    captions = found.drop_duplicates("row")["row_caption"].tolist()
    assert captions == [e.replace(">", "before") for e in events]
    np.testing.assert_array_equal(matrix, np.equal.outer(events, events).astype(float))


def test_similarities_show_a_few_pairs_only():
    found = rows_of([(a, b) for a in "dgrw" for b in "dgrw" if a != b])
    assert len(found) == (2 * SIMILARITY_PAIRS) ** 2
