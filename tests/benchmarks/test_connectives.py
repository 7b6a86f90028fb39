import re

import numpy as np
import pandas as pd
import pytest

from benchmarks import connectives as module
from benchmarks.connectives import ANY, CONNECTIVES, NONE, connectives, main, shares

# Sentences of our own, with the connectives that a reader finds in them.
READ = {
    "A kettle whistles before a cup is filled": {"before"},
    "Before a crash, tyres squeal": {"before", "comma"},
    "A man talks after a gong": {"after"},
    "A gong, and afterwards silence": {"after", "and", "comma"},
    "Hail followed by thunder": {"followed by"},
    "A bell, then footsteps": {"then", "comma"},
    "Someone coughs and then a door slams shut": {"and", "then"},
    "A saw works until a plank falls": {"until"},
    "A choir sings while an organ plays": {"while"},
    "A crowd cheers as a ball is hit": {"as"},
    "Talking during a concert": {"during"},
    "Two bells ring at the same time": {"at the same time"},
    "A drum and a horn sound at once": {"at the same time", "and"},
    "A lid pops when steam escapes": {"when"},
    "A motor starts and later stops": {"begins, stops", "later", "and"},
    "Once the gate opens, horses run": {"once", "comma"},
    "Finally a whistle": {"finally"},
    "At first a hum, eventually a roar": {"first", "finally", "comma"},
    "A fiddle along with a flute": {"along with", "with"},
    "A pump clatters, all the while it rains": {"while", "comma"},
    # What sounds like time and is not.
    "A fan slows as time goes by": set(),
    "Owls hoot during the night": set(),
    "A dog as well as a cat": set(),
    "Wind for a while": set(),
    "Tools such as saws": set(),
    "Water drips now and then": set(),
    "A clock strikes once": set(),
    "It is as loud as a jet": set(),
    "One car after another": {"again and again"},
    "A shop next to a street": set(),
}


def test_sentences_are_read_as_a_reader_does():
    found = connectives(READ)
    assert [set(found.columns[row]) for row in found.to_numpy()] == [*READ.values()]
    assert set.union(*READ.values()) == set(CONNECTIVES) - {"next", "meanwhile"}, "every pattern is read"


def test_shares_by_hand(monkeypatch):
    texts = ["hail before rain", "hail", "rain while hail", "rain, then hail", "x and y", "x", "y", "z"]
    sets, clips = ["one"] * 6 + ["two"] * 2, list("aabbccde")
    captions = pd.DataFrame({"data_set": sets, "clip_id": clips, "caption": texts})
    monkeypatch.setattr(module, "FEW", 1)
    found = shares(captions).set_index(["data_set", "connective"])
    assert found.loc[("one", "before"), ["captions", "total"]].tolist() == [1, 6]
    percent = [found.loc[("one", name), "share"] for name in (*ANY.values(), NONE)]
    assert percent == pytest.approx([100 * 2 / 6, 100 / 6, 50])
    # Three clips of two captions with 1, 1 and 0 hits: 1/3, 1/3 and -2/3 off what a share of 1/3 gives.
    row, half = found.loc[("one", "any order word")], 1.959963984540054 * np.sqrt(6 / 9) / 6
    assert (row["low"], row["high"]) == pytest.approx((100 * (1 / 3 - half), 100 * (1 / 3 + half)))
    # Nothing found: Wilson's upper end, z^2 / (n + z^2).
    z = 1.959963984540054
    assert found.loc[("two", "before"), "high"] == pytest.approx(100 * z**2 / (2 + z**2))


def test_the_command_prints_what_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AUDIOCAPS_ROOT", str(tmp_path / "nowhere"))
    monkeypatch.setenv("CLOTHO_ROOT", str(tmp_path / "clotho"))
    main([])
    left_out = capsys.readouterr().out.splitlines()
    assert len(left_out) == 2 and left_out[0].startswith("Left out: ") and "nowhere" in left_out[0]
    (tmp_path / "clotho").mkdir()
    captions = ["hail then rain", "hail", "rain", "hail and rain", "rain while hail"]
    columns = ["file_name", *(f"caption_{n}" for n in range(1, 6))]
    rows = pd.DataFrame([[f"{n}.wav", *captions] for n in range(4)], columns=columns)
    rows.to_csv(tmp_path / "clotho" / "clotho_captions_development.csv", index=False)
    main([])
    out = capsys.readouterr().out
    assert "clotho, n = 20" in out and re.search(r"any order word +20\.0 \[", out)
