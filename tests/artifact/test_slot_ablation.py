"""What the ablation of slots counts and compares, by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from artifact.parsers import OracleParser
from artifact.slot_ablation import both_named, error_sources
from tclap.models.encoder import Encoder
from tclap.slots.model import SlotModel

LABELS = ["dog", "hen", "rain"]


class Sums(Encoder):
    """Of 8 samples: the sums of either half and 1, normalised; of a caption how often it has d, h and r."""

    name, sample_rate, window, dim, batch_size = "sums", 8, 1.0, 3, 4

    def embed_windows(self, waveforms):
        halves = waveforms.unflatten(1, (2, -1)).sum(2)
        return normalize(torch.cat([halves, torch.ones(len(waveforms), 1)], 1), dim=-1)

    def embed_texts(self, captions):
        return normalize(torch.tensor([[1.0 + c.count(x) for x in "dhr"] for c in captions]), dim=-1)


@pytest.mark.parametrize("simultaneous", [True, False])
def test_the_oracle_parse_with_halves_is_half_window_classification(simultaneous):
    base, waveform = Sums(), np.random.default_rng(0).standard_normal(16).astype(np.float32)
    model = SlotModel(base, OracleParser(LABELS, simultaneous=simultaneous), parts=[0.5])
    captions = ["dog before rain", "dog after rain", "dog while rain", "this is a sound of dog"]
    captions.append("In this concatenated sound, the second sound is rain")
    found = model.encode_audio([waveform])[0] @ model.encode_text(captions).T

    first, last, whole = base.encode_audio([waveform[:8], waveform[8:], waveform], policy="cover")
    names = ["dog", "rain", "dog and rain"]
    dog, rain, both = base.encode_text([f"this is a sound of {name}" for name in names])
    caption = base.encode_text(captions)[2]
    expected = [
        (first @ dog + last @ rain) / 2,
        (first @ rain + last @ dog) / 2,
        (first @ both + last @ both) / 2 if simultaneous else whole @ caption,
        whole @ dog,
        last @ rain,
    ]
    torch.testing.assert_close(3**0.5 * found, torch.stack(expected), atol=1e-6, rtol=0)


def test_slots_that_are_classified_as_both_events_in_any_order_name_them():
    pairs = pd.DataFrame({"pair_id": ["p", "q"], "label_i": ["dog", "hen"], "label_j": ["rain", "dog"]})
    axes = {label: torch.eye(3)[n] for n, label in enumerate(LABELS)}
    heard = {
        "p/forward": ("dog", "rain"),
        "p/reversed": ("dog", "rain"),
        "p/overlap": ("dog", "dog"),
        "q/forward": ("hen", "dog"),
        "q/reversed": ("dog", "rain"),
        "q/overlap": ("dog", "hen"),
    }

    def sounds(names):
        # Of three slots the middle one does not count.
        rows = [(axes["hen"], axes[heard[n][0]], axes["hen"], axes[heard[n][1]]) for n in names]
        return torch.stack([torch.cat([*row, torch.zeros(1)]) for row in rows])

    def embed_captions(captions, _):
        return torch.stack([axes[caption.removeprefix("this is a sound of ")] for caption in captions])

    model = SimpleNamespace(base=SimpleNamespace(dim=3, embed_captions=embed_captions))
    run = SimpleNamespace(labels=LABELS, text=None)
    found = both_named(SimpleNamespace(sounds=sounds, model=model, experiment=run), pairs)
    right = {name for name, named in found.items() if named}
    assert right == {"p/forward", "p/reversed", "q/forward", "q/overlap"} and found.keys() == heard.keys()


def test_errors_are_of_reading_order_or_recognition():
    items = [
        # Task, correct, both events named, the oracle parse is correct.
        ("3", True, True, True),
        ("3", True, False, False),
        ("3", False, True, True),
        ("3", False, False, True),
        ("3", False, True, False),
        ("3", False, False, False),
        ("3", False, False, False),
        ("2way_before", True, True, True),
        ("5", False, False, False),
    ]
    columns = ["task", "correct", "named", "by_oracle"]
    asked = pd.DataFrame(items, columns=columns).assign(item=[f"item {n}" for n in range(len(items))])
    asked = asked.astype({"named": "boolean"})
    oracle = asked.assign(group="reader", change="oracle", correct=asked["by_oracle"], named=False)
    others = asked.assign(group="reader", change="shipped", correct=True)
    rows = [oracle.iloc[::-1], others, asked.assign(group="as it is", change="")]
    names = ("task", "n", "wrong", "reading", "order", "recognition")
    assert [tuple(row[name] for name in names) for row in error_sources(pd.concat(rows))] == [
        ("3", 7, 5, 2, 1, 2),
        ("2way_before", 1, 0, 0, 0, 0),
    ]
