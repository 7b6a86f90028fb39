import collections
import itertools

import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.stats import kstest

from tclap import audio
from tclap.data import composites
from tclap.data.composites import (
    TARGET_RMS,
    VIEWS,
    ClipAudio,
    draw_pairs,
    phrases,
    place,
    render,
    render_single,
)

RATE = 16000
LABELS = ("dog", "rain", "rooster", "sea waves", "sneezing")
ALL_VIEWS = (*VIEWS, "first", "second", "periodic")


def tone(samples, hertz, loud_from=0.5, level=0.02):
    """A tone that is five times as loud in a tenth of its length, from the fraction ``loud_from`` on."""
    x = level * np.sin(2 * np.pi * hertz * (np.arange(samples) + 0.5) / RATE)  # no sample is 0
    start = int(loud_from * samples)
    x[start : start + samples // 10] *= 5
    return x.astype(np.float32)


def write_clips(folder, waveforms):
    """A clips table of test clips, one label each."""
    for n, x in enumerate(waveforms):
        soundfile.write(folder / f"{n}.wav", x, RATE, subtype="FLOAT")
    rows = [{"clip_id": f"c{n}", "path": str(folder / f"{n}.wav")} for n in range(len(waveforms))]
    clips = pd.DataFrame(rows).assign(split="test")
    return clips.assign(label=clips["clip_id"], source=clips["clip_id"], captions=[["x"]] * len(clips))


def one_pair(i="c0", j="c1"):
    return pd.DataFrame([{"pair_id": "test-000000", "clip_i": i, "clip_j": j}])


def placed(folder, waveforms, window=2.0, **options):
    """Row of a manifest of the first two waveforms, and what reads the clips."""
    reader = ClipAudio(write_clips(folder, waveforms), RATE)
    return place(one_pair(), reader, window, **options).to_dict("records")[0], reader


def to_target(x):
    return x * TARGET_RMS / np.sqrt(np.mean(np.square(x, dtype=np.float64)))


def crop_by_hand(x, length):
    """The loudest ``length`` samples at TARGET_RMS in float64, by trying every start."""
    x = np.asarray(x, np.float64)
    if len(x) < length:
        x = np.tile(x, -(-length // len(x)))[:length]
    else:
        energy = np.convolve(x * x, np.ones(length), "valid")
        start = int(np.flatnonzero(energy >= energy.max() * (1 - 1e-12))[0])
        x = x[start : start + length]
    return to_target(x)


def clips_table(per_class, labels=LABELS, splits=("train", "validation", "test")):
    rows = [
        {"clip_id": f"{s}-{label}-{n}", "label": label, "split": s, "captions": [label]}
        for s, label, n in itertools.product(splits, labels, range(per_class))
    ]
    clips = pd.DataFrame(rows)
    return clips.assign(source="src-" + clips["clip_id"])


# Captions


def test_captions_and_events_of_the_three_views_by_hand():
    expected = {
        "preceding": ["dog before rain", "rain before dog", "dog while rain"],
        "succeeding": ["rain after dog", "dog after rain", "dog while rain"],
    }
    for sigma, texts in expected.items():
        views = phrases("dog", "rain", sigma)
        assert [views[v].text("{}") for v in VIEWS] == texts
        assert [views[v].text() for v in VIEWS] == [f"this is a sound of {text}" for text in texts]
        assert [views[v].events for v in VIEWS] == ["dog > rain", "rain > dog", "dog & rain"]
        # The reversed view is the forward view of the pair the other way round.
        assert views["reversed"] == phrases("rain", "dog", sigma)["forward"]
        for phrase in views.values():
            assert phrase.inverted.inverted == phrase != phrase.inverted
            assert (phrase.inverted.events == phrase.events) == (phrase.relation == "while")


# Drawing pairs


@pytest.mark.parametrize("enumerable", [composites.ENUMERABLE, 0])
@pytest.mark.parametrize(("stage", "split"), [("base", "train"), ("post", "train"), ("test", "test")])
def test_drawn_pairs(monkeypatch, enumerable, stage, split):
    monkeypatch.setattr(composites, "ENUMERABLE", enumerable)
    clips = clips_table(4)
    pairs = draw_pairs(clips, stage, 250, seed=3)
    assert pairs["pair_id"].is_unique and set(pairs["stage"]) == {stage}
    assert (pairs["label_i"] != pairs["label_j"]).all()
    assert not pairs.duplicated(["clip_i", "clip_j"]).any()
    by_id = clips.set_index("clip_id")
    for end in ("i", "j"):
        chosen = by_id.loc[pairs[f"clip_{end}"]]
        assert set(chosen["split"]) == {split}
        for column in ("label", "source"):
            assert chosen[column].tolist() == pairs[f"{column}_{end}"].tolist()
    pd.testing.assert_frame_equal(pairs, draw_pairs(clips, stage, 250, seed=3))
    assert not pairs.equals(draw_pairs(clips, stage, 250, seed=4))


CAPTIONS = ["A {} sounds.", " the {} again ", "{}... far away..", "{}"]


@pytest.mark.parametrize("distinct", [False, True])
def test_captions_are_drawn_and_do_not_change_which_pairs_are_drawn(distinct):
    one = clips_table(4)
    many = one.assign(captions=[[caption.format(n) for caption in CAPTIONS] for n in one["clip_id"]])
    plain, worded = (draw_pairs(c, "test", 200, seed=3, distinct=distinct) for c in (one, many))
    texts = ["text_i", "text_j"]
    pd.testing.assert_frame_equal(plain.drop(columns=texts), worded.drop(columns=texts))
    assert (plain[texts].to_numpy() == plain[["label_i", "label_j"]].to_numpy()).all()
    for end in ("i", "j"):
        named = zip(worded[f"text_{end}"], worded[f"clip_{end}"], strict=True)
        found = collections.Counter(text.replace(clip, "{}") for text, clip in named)
        # A sentence goes on: no full stop, no blank at either end.
        assert set(found) == {"A {} sounds", "the {} again", "{}... far away", "{}"}
        assert min(found.values()) > 25
    # A clip that is drawn again is named differently, and by another seed too.
    assert worded.groupby("clip_i")["text_i"].nunique().max() > 1


@pytest.mark.parametrize("enumerable", [composites.ENUMERABLE, 0])
def test_every_pair_can_be_drawn_and_not_one_more(monkeypatch, enumerable):
    monkeypatch.setattr(composites, "ENUMERABLE", enumerable)
    clips = pd.concat([clips_table(2, LABELS[:2]), clips_table(3, LABELS[2:3])])
    pairs = draw_pairs(clips, "test", 32, seed=0)
    test = list(clips[clips["split"] == "test"].itertuples())
    expected = {(a.clip_id, b.clip_id) for a in test for b in test if a.label != b.label}
    # 7 * 7 pairs without those of one label, 2 * 2 + 2 * 2 + 3 * 3.
    assert len(expected) == 32 and set(zip(pairs["clip_i"], pairs["clip_j"], strict=True)) == expected
    with pytest.raises(ValueError, match="7 clips make only 32 pairs with different labels; 33"):
        draw_pairs(clips, "test", 33, seed=0)
    with pytest.raises(ValueError, match="only 0 pairs"):
        draw_pairs(clips_table(4, LABELS[:1]), "test", 1, seed=0)


@pytest.mark.parametrize(("count", "distinct"), [(1, False), (7, True), (100, True), (201, False)])
def test_wordings_and_orders_are_balanced(count, distinct):
    pairs = draw_pairs(clips_table(5), "test", count, seed=1, distinct=distinct)
    sigma = pairs["sigma"].value_counts().reindex(["preceding", "succeeding"], fill_value=0)
    assert abs(sigma.iloc[0] - sigma.iloc[1]) <= 1 and sigma.sum() == count
    for _, group in pairs.groupby("sigma"):
        order = group["order"].value_counts().reindex(["forward", "reversed"], fill_value=0)
        assert abs(order.iloc[0] - order.iloc[1]) <= 1 and order.sum() == len(group)
    if count >= 100:  # shuffled over the rows, not dealt out in turn
        assert (pairs["sigma"] == pairs["sigma"].shift()).any()
        assert pairs.groupby("sigma")["order"].agg(lambda o: (o == o.shift()).any()).all()


@pytest.mark.parametrize("classes", [2, 4, 5])
def test_distinct_groups_have_each_class_at_most_once(classes):
    group = classes // 2
    pairs = draw_pairs(clips_table(3, LABELS[:classes]), "post", 60 * group, seed=0, distinct=True)
    for start in range(0, len(pairs), group):
        rows = pairs.iloc[start : start + group]
        assert len({*rows["label_i"], *rows["label_j"]}) == 2 * group
    assert set(pairs["label_i"]) == set(pairs["label_j"]) == set(LABELS[:classes])
    assert pairs["clip_i"].str.startswith("train").all() and pairs["clip_i"].nunique() == 3 * classes
    # The last group may be incomplete.
    assert len(draw_pairs(clips_table(3), "post", 7, seed=0, distinct=True)) == 7
    with pytest.raises(ValueError, match="no group of 3 pairs"):
        draw_pairs(clips_table(3), "post", 7, seed=0, distinct=True, group=3)


# Placing and rendering


def test_fit_against_a_reconstruction_by_hand(tmp_path, monkeypatch):
    a, b = tone(40000, 440, 0.7), tone(30011, 1300, 0.1)
    monkeypatch.setattr(composites, "BOUNDARY", (0.3, 0.3))
    row, reader = placed(tmp_path, [a, b])
    assert (row["length_i"], row["length_j"]) == (9600, 22400)
    i, j = crop_by_hand(a, 9600), crop_by_hand(b, 22400)
    first, second = (crop_by_hand(x, 32000) for x in (a, b))  # of which the second repeats
    expected = {
        "forward": np.concatenate([i, j]),
        "reversed": np.concatenate([j, i]),
        "overlap": to_target(first + second),
        "first": first,
        "second": second,
        "periodic": np.tile(to_target(crop_by_hand(a, 16000) + crop_by_hand(b, 16000)), 2),
    }
    for view, x in expected.items():
        np.testing.assert_allclose(render(row, view, reader), x, atol=1e-6)
    np.testing.assert_allclose(render_single(reader("c0"), 2.0, RATE), first, atol=1e-6)
    assert (row["gap"], row["window"], row["sample_rate"], row["cut"]) == (0, 32000, RATE, -1)
    # The crop is around the loud part: 4000 samples from 28000 on of the first, from 3001 of the second.
    assert 22400 <= row["start_i"] <= 28000 and row["start_j"] <= 3001
    assert 0 <= row["start_whole_i"] <= 8000 and row["start_whole_j"] == 0


def test_the_boundary_is_drawn_evenly_by_seed_and_row_alone():
    class Noise:
        sample_rate = 1000

        def __call__(self, clip_id):
            return np.random.default_rng(int(clip_id)).normal(size=300).astype(np.float32)

    def lengths(first, seed=0):
        pairs = pd.DataFrame({"clip_i": [str(n) for n in first], "clip_j": [str(n + 1) for n in first]})
        return place(pairs, Noise(), 2.0, seed=seed)["length_i"].to_numpy()

    drawn = lengths(range(1000))
    assert drawn.min() >= 500 and drawn.max() <= 1500
    assert kstest(drawn, "uniform", (500, 1000)).pvalue > 0.01
    # Neither the clips nor how many rows there are matter.
    assert (lengths(range(7, 57)) == drawn[:50]).all()
    assert (lengths(range(50), seed=(0, 1)) != lengths(range(50), seed=(1, 0))).any()


def test_nothing_repeats_but_what_is_periodic(tmp_path):
    noise = [np.random.default_rng(n).normal(0, 0.1, 40000).astype(np.float32) for n in range(2)]
    row, reader = placed(tmp_path, noise)
    for view in ALL_VIEWS:
        halves = np.corrcoef(render(row, view, reader).reshape(2, -1))[0, 1]
        assert halves == pytest.approx(1.0 if view == "periodic" else 0.0, abs=0.03)


@pytest.mark.parametrize("policy", composites.POLICIES)
@pytest.mark.parametrize("gap", [(0, 0), (-300, 300)])
def test_manifest_read_back_from_parquet_rebuilds_every_sample(tmp_path, policy, gap):
    clips = write_clips(tmp_path, [tone(20000 + 3001 * n, 300 * (n + 1), n / 6) for n in range(5)])
    reader, options = ClipAudio(clips, RATE), {"policy": policy, "gap_ms": gap}
    pairs = place(draw_pairs(clips, "test", 12, seed=0), reader, 2.0, **options, seed=5)
    pairs.to_parquet(tmp_path / "pairs.parquet", index=False)
    back = pd.read_parquet(tmp_path / "pairs.parquet")
    pd.testing.assert_frame_equal(back, pairs)
    fresh = ClipAudio(clips, RATE)
    for row, again in zip(pairs.to_dict("records"), back.to_dict("records"), strict=True):
        for view in ALL_VIEWS:
            x = render(row, view, reader)
            assert x.dtype == np.float32 and audio.rms(x) == pytest.approx(TARGET_RMS, rel=1e-5)
            np.testing.assert_array_equal(render(again, view, fresh), x)
            assert policy == "full" or len(x) == 32000
    if gap != (0, 0):
        assert pairs["gap"].nunique() > 5 and pairs["gap"].min() < 0 < pairs["gap"].max()
        assert pairs["gap"].between(-4800, 4800).all()
    pd.testing.assert_frame_equal(place(pairs, reader, 2.0, **options, seed=5), pairs)


@pytest.mark.parametrize(("window", "gap_ms"), [(2.0, 0), (31999 / RATE, 1), (2.0, 1000), (2.0, -600)])
def test_fit_fills_the_window_exactly(tmp_path, window, gap_ms):
    row, reader = placed(tmp_path, [tone(40000, 440), tone(9000, 990)], window, gap_ms=(gap_ms, gap_ms))
    samples, first, second, gap = round(window * RATE), row["length_i"], row["length_j"], row["gap"]
    assert first + second + gap == samples and gap == gap_ms * RATE / 1000
    for view in ALL_VIEWS:
        assert len(render(row, view, reader)) == samples
    forward = render(row, "forward", reader)
    if gap_ms >= 0:
        assert not forward[first : first + gap].any()
        assert forward[first - 10 : first].any() and forward[first + gap :][:10].any()
    else:
        # What is not cross-faded is the events themselves; the fade is equal-power.
        phase = (np.arange(-gap) + 0.5) / -gap * np.pi / 2
        i, j = crop_by_hand(reader("c0"), first), crop_by_hand(reader("c1"), second)
        joined = np.cos(phase) * i[gap:] + np.sin(phase) * j[:-gap]
        np.testing.assert_allclose(forward, to_target(np.concatenate([i[:gap], joined, j[-gap:]])), atol=1e-6)


@pytest.mark.parametrize("policy", ["fit", "full"])
@pytest.mark.parametrize("gap_ms", [0, 37, 500])
def test_reversed_is_the_inversion_of_forward_and_inverting_twice_changes_nothing(
    tmp_path, monkeypatch, policy, gap_ms
):
    options = {"policy": policy, "gap_ms": (gap_ms, gap_ms)}
    row, reader = placed(tmp_path, [tone(63999, 440), tone(64001, 990)], **options)
    first, second = row["length_i"], row["length_j"]
    forward, backward = render(row, "forward", reader), render(row, "reversed", reader)
    # Whole segments change places, what is between them stays, and nothing is played backwards.
    assert first != second
    parts = [forward[-second:], forward[first:-second], forward[:first]]
    np.testing.assert_allclose(np.concatenate(parts), backward, atol=1e-7)
    # So does the pair the other way round, with the boundary where the reversed view has it.
    monkeypatch.setattr(composites, "BOUNDARY", (second / (first + second),) * 2)
    other = place(one_pair("c1", "c0"), reader, 2.0, **options).to_dict("records")[0]
    np.testing.assert_array_equal(render(other, "forward", reader), backward)
    np.testing.assert_array_equal(render(other, "reversed", reader), forward)
    assert np.abs(forward - backward).max() > 0.01


@pytest.mark.parametrize("policy", composites.POLICIES)
def test_silence_stays_silence(tmp_path, policy):
    silence = np.zeros(40000, np.float32)
    with pytest.warns(UserWarning, match="is silent"):
        row, reader = placed(tmp_path, [silence, silence], policy=policy)
        assert not any(render(row, view, reader).any() for view in ALL_VIEWS)


def test_clips_stay_in_memory_up_to_a_number_of_samples(tmp_path, monkeypatch):
    clips = write_clips(tmp_path, [np.full(1000, 0.1)] * 4)
    ids, loaded = clips["clip_id"].tolist(), []
    load = ClipAudio.load
    monkeypatch.setattr(ClipAudio, "load", lambda self, name: loaded.append(name) or load(self, name))
    reader = ClipAudio(clips, RATE, keep=2500)
    for n in (0, 1, 0, 1, 2, 1, 0):  # the third takes the place of the first, which was asked for longest ago
        assert len(reader(ids[n])) == 1000
    assert loaded == [ids[n] for n in (0, 1, 2, 0)]
    alone = ClipAudio(clips, RATE, keep=1)
    assert alone(ids[3]) is alone(ids[3]), "one longer than that stays too"


def test_full_keeps_whole_clips(tmp_path):
    a, b = tone(9000, 440), tone(21001, 990)
    row, reader = placed(tmp_path, [a, b], policy="full", gap_ms=(10, 10))
    i, j = to_target(a), to_target(b)
    # Each clip repeats to the composite's length.
    wholes = [to_target(np.tile(x, 4)[: 9000 + 160 + 21001]) for x in (a, b)]
    expected = {
        "forward": np.concatenate([i, np.zeros(160), j]),
        "reversed": np.concatenate([j, np.zeros(160), i]),
        "overlap": sum(wholes),
    }
    for view, x in expected.items():
        np.testing.assert_allclose(render(row, view, reader), to_target(x), atol=1e-6)


def test_msclap_cuts_a_seeded_window_or_repeats(tmp_path):
    clips = write_clips(tmp_path, [tone(20000, 440), tone(18000, 990), tone(3000, 2000)])
    reader = ClipAudio(clips, RATE)
    many = pd.concat([one_pair()] * 400, ignore_index=True)
    pairs = place(many, reader, 2.0, policy="msclap", seed=1)
    # 38000 samples have 6001 windows of 32000.
    assert pairs["cut"].between(0, 6000).all() and pairs["cut"].min() < 100 and pairs["cut"].max() > 5900
    row = pairs.to_dict("records")[0]
    whole = np.concatenate([to_target(reader(c)) for c in ("c0", "c1")])
    expected = to_target(whole[row["cut"] : row["cut"] + 32000])
    np.testing.assert_allclose(render(row, "forward", reader), expected, atol=1e-6)

    short = place(one_pair("c0", "c2"), reader, 2.0, policy="msclap").to_dict("records")[0]
    x = render(short, "forward", reader)
    np.testing.assert_array_equal(x[: 32000 - 23000], x[23000:])


def test_what_cannot_be_placed_is_refused(tmp_path):
    _, reader = placed(tmp_path, [tone(9000, 440), tone(9000, 990)])
    with pytest.raises(ValueError, match="one of fit, full, msclap, got 'crop'"):
        place(one_pair(), reader, 2.0, policy="crop")
    for policy, gap in (("fit", 2000), ("fit", -2000), ("full", -600)):
        with pytest.raises(ValueError, match="leaves no room for two events"):
            place(one_pair(), reader, 2.0, gap_ms=(gap, gap), policy=policy)
