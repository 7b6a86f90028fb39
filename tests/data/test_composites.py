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
    place,
    render,
    render_single,
)

RATE = 16000
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
