from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from tclap import audio, load_clips
from tclap.data import batches
from tclap.data.batches import (
    BASE_MIX,
    GAIN_DB,
    LONGEST,
    MASKED_BANDS,
    MASKED_FRAMES,
    SegmentBank,
    base_batch,
    base_captions,
    composite_batch,
    draw_base_items,
    mask_bands,
)
from tclap.data.captions import CONJUNCTION, SINGLE, view_captions, view_events
from tclap.data.composites import TARGET_RMS, VIEWS, ClipAudio, draw_pairs, place, render, render_single
from tclap.models.compact import Compact

CROP_ENERGY = 0.5
WINDOW, RATE = 4.0, 16000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small data set's bank, manifest and reader, and a randomly initialised model."""
    torch.manual_seed(0)
    model = Compact(window=WINDOW).eval()
    options = {"labels": ["dog", "rooster", "rain", "siren"], "clips_per_class": {"test": 2}}
    clips = load_clips("synthetic", tmp_path_factory.mktemp("data"), **options)
    reader = ClipAudio(clips, RATE)
    pairs = place(draw_pairs(clips, "test", 12, seed=0), reader, WINDOW)
    bank = SegmentBank(clips, reader, model.audio_trunk.mel, WINDOW)
    return SimpleNamespace(model=model, clips=clips, reader=reader, pairs=pairs, bank=bank)


HOP = 10


def sample_power(waveforms):
    """Stands for a mel spectrogram: band k is the power of the k-th sample of every ``HOP``."""
    return waveforms[:, : waveforms.shape[1] // HOP * HOP].unflatten(1, (-1, HOP)).square()


def bank_of(waveforms, labels, window):
    """A bank of the given waveforms with a window in frames of ``HOP`` samples."""

    class Audio:
        sample_rate = HOP

        def __call__(self, clip_id):
            return waveforms[int(clip_id)]

    clips = pd.DataFrame({"clip_id": [str(n) for n in range(len(labels))], "label": labels})
    clips["captions"] = [[label] for label in labels]
    return SegmentBank(clips, Audio(), sample_power, window, CROP_ENERGY)


FULL = HOP * TARGET_RMS**2


def toy_bank(labels, frames=8):
    """A bank of clips that sound in a band of their own, with the power ``FULL`` in each frame."""
    clips = np.tile(np.eye(HOP, dtype=np.float32), frames)
    return bank_of(clips, labels, frames)


def test_a_segment_of_the_whole_window_is_the_clip_as_it_is_played_alone(made):
    bank = made.bank
    ids = list(made.clips["clip_id"][[3, 0, 7]])
    assert bank.rows(ids).tolist() == [3, 0, 7] and bank.frames == 200
    found = bank.segments(bank.rows(ids), np.full(3, 200), None)
    waveforms = np.stack([render_single(made.reader(clip_id), WINDOW, RATE) for clip_id in ids])
    with torch.inference_mode():
        alone = made.model.audio_trunk.mel(torch.from_numpy(waveforms))
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-9)
    assert not found.is_inference()


@pytest.mark.parametrize("seconds", [4.0, 10.0, 1.5, 0.1])
def test_embeddings_of_composed_power_and_of_composed_waveforms_agree(made, monkeypatch, seconds):
    """Of clips as long as the window, longer or shorter, with the boundaries that the manifest has drawn."""
    samples = round(seconds * RATE)

    class Audio:
        sample_rate = RATE

        def __call__(self, clip_id):
            clip = made.reader(clip_id)
            if samples > len(clip):
                clip = np.pad(clip, (samples - len(clip)) // 2)
                return clip + np.random.default_rng(0).normal(0, 1e-3, samples).astype(np.float32)
            return audio.crop(clip, audio.most_energetic_start(clip, samples), samples)

    model, reader, pairs = made.model, Audio(), place(made.pairs, Audio(), WINDOW)
    bank = SegmentBank(made.clips, reader, model.audio_trunk.mel, WINDOW)
    drawn = (bank.frames * pairs["length_i"] / pairs["window"]).round().astype(int).to_numpy()
    monkeypatch.setattr(batches, "draw_boundaries", lambda *_: drawn)
    batch = composite_batch(bank, pairs, model.audio_trunk.mel.log, None)
    rows = pairs.to_dict("records")
    with torch.inference_mode():
        power = model.embed_features(model.audio_trunk.from_log_mel(batch.log_mel)).unflatten(0, (3, -1))
        waves = torch.stack(
            [model.encode_audio(np.stack([render(row, view, reader) for row in rows])) for view in VIEWS]
        )
    assert (power * waves).sum(-1).mean(1).min() >= 0.99
    # A fresh model's embeddings are all alike; what is left without their mean must agree too.
    mean = waves.flatten(0, 1).mean(0)
    power, waves = (torch.nn.functional.normalize(x - mean, dim=-1) for x in (power, waves))
    cosine = torch.einsum("und,vnd->nuv", power, waves).mean(0)
    assert cosine.diagonal().min() >= 0.9
    assert cosine[~torch.eye(3, dtype=torch.bool)].max() < 0.5


def test_composite_batch_stacks_the_views_with_their_captions(made):
    bank, boundary = made.bank, np.linspace(50, 150, 12).round().astype(int)
    batch = composite_batch(bank, made.pairs, lambda x: x, None)
    i, j = (bank.rows(made.pairs[column]) for column in ("clip_i", "clip_j"))
    parts = zip(bank.segments(i, boundary, None), bank.segments(j, 200 - boundary, None), strict=True)
    wholes = sum(bank.segments(rows, np.full(12, 200), None) for rows in (i, j))
    forward, backward, overlap = batch.log_mel.unflatten(0, (3, -1))
    for n, ((first, second), at) in enumerate(zip(parts, boundary, strict=True)):
        # Each event is as long in one order as in the other.
        assert torch.equal(forward[n], torch.cat([first[:at], second[: 200 - at]]))
        assert torch.equal(backward[n], torch.cat([second[: 200 - at], first[:at]]))
    torch.testing.assert_close(overlap, wholes / 2)
    captions, events = view_captions(made.pairs), view_events(made.pairs)
    assert (batch.captions, batch.events) == (sum(captions, []), sum(events, []))


def test_augmentation_is_the_generators_and_changes_the_sound(made):
    def batch(seed):
        return composite_batch(
            made.bank, made.pairs, made.model.audio_trunk.mel.log, np.random.default_rng(seed)
        )

    one, again, other = batch(0), batch(0), batch(1)
    assert torch.equal(one.log_mel, again.log_mel) and one.captions == again.captions
    assert not torch.equal(one.log_mel, other.log_mel) and one.captions != other.captions
    plain = composite_batch(made.bank, made.pairs, made.model.audio_trunk.mel.log, None)
    changed = (one.log_mel - plain.log_mel).abs().amax((1, 2)) > 0.1
    assert changed.all() and one.events == plain.events


@pytest.mark.parametrize("size", [20, 8])
@pytest.mark.parametrize("length", [60, 25, 20, 15, 7])
def test_segments_are_cut_rolled_and_change_their_level(length, size):
    """``size`` frames of clips of ``length``, of which the bank keeps LONGEST windows of 20 at most."""
    rng = np.random.default_rng(length)
    # A loud part of 30 frames, where there is room for one, and frames that differ.
    level = np.where((np.arange(length) > length - 35) & (np.arange(length) < length - 5), 1.0, 0.2)
    energy = np.square(level * rng.uniform(0.8, 1.2, length))
    clip = np.repeat(np.sqrt(energy), HOP).astype(np.float32)
    bank = bank_of([clip, clip], ["a", "b"], 20)
    kept, longest = np.resize(energy, max(length, 20)), LONGEST * 20
    if length > longest:
        first = max(range(length - longest + 1), key=lambda n: energy[n : n + longest].sum())
        kept = kept[first : first + longest]
    starts = range(max(min(length, longest) - size, 0) + 1)  # a shorter clip repeats from its beginning on
    cuts = {n: kept[n : n + size] for n in starts}
    loudest = max(cut.sum() for cut in cuts.values())

    count = 1500
    rows, lengths = np.arange(count) % 2, np.full(count, size)
    plain = bank.segments(rows[:2], lengths[:2], None)[..., 0].double().numpy()
    best = max(cuts.values(), key=np.sum)
    expected = np.resize(best / best.mean() * TARGET_RMS**2, 20)  # repeated to the whole window
    np.testing.assert_allclose(plain, [expected, expected], rtol=1e-5)

    power = bank.segments(rows, lengths, np.random.default_rng(0))
    assert power.shape == (count, 20, HOP) and torch.equal(power[..., 0], power[..., 9])
    drawn = power[..., 0].double().numpy()
    assert (drawn == drawn[:, np.arange(20) % size]).all()
    drawn = drawn[:, :size]
    decibels = 10 * np.log10(drawn.mean(1) / TARGET_RMS**2)
    assert np.abs(decibels).max() <= GAIN_DB + 1e-3
    assert decibels.min() < -0.9 * GAIN_DB and decibels.max() > 0.9 * GAIN_DB
    drawn /= drawn.sum(1, keepdims=True)
    loud = {n: cut / cut.sum() for n, cut in cuts.items() if cut.sum() >= CROP_ENERGY * loudest}
    known = np.array([np.roll(cut, -shift) for cut in loud.values() for shift in range(size)])
    distance = np.stack([np.abs(known - segment).max(1) for segment in drawn])
    assert distance.min(1).max() < 1e-6
    start, shift = np.divmod(distance.argmin(1), size)
    assert len(set(start)) == len(loud) and set(shift) == set(range(size))


def test_segments_of_silence_stay_silent():
    silent, noise = np.zeros(400, np.float32), np.random.default_rng(0).normal(size=400).astype(np.float32)
    bank = bank_of([silent, noise], ["a", "b"], 20)
    power = bank.segments(np.array([0, 1, 0]), np.array([20, 8, 8]), np.random.default_rng(0))
    assert not power[[0, 2]].any() and power[1].all() and torch.isfinite(power).all()


def test_mask_blanks_one_range_of_frames_and_one_of_bands():
    frames, mels = 200, 64
    log_mel = torch.ones(300, frames, mels)
    masked = mask_bands(log_mel, np.random.default_rng(0))
    assert torch.equal(log_mel, torch.ones_like(log_mel))
    blank = masked == 0
    assert torch.equal(masked == 1, ~blank)
    in_time, in_bands = blank.all(2), blank.all(1)
    assert torch.equal(blank, in_time[:, :, None] | in_bands[:, None, :])
    for lines, share in ((in_time, MASKED_FRAMES), (in_bands, MASKED_BANDS)):
        # Connected: at most one rise in each row.
        rises = torch.diff(lines.int(), prepend=torch.zeros(300, 1, dtype=torch.int), dim=1) == 1
        assert rises.sum(1).max() == 1
        width = lines.sum(1)
        assert width.max() == int(share * lines.shape[1]) and width.min() == 0
        # Every position is reached, both ends included.
        assert lines.any(0).all()
    assert torch.equal(masked, mask_bands(log_mel, np.random.default_rng(0)))


LABELS = ["dog", "rain", "rooster", "sea waves"]


@pytest.mark.parametrize("mix", [BASE_MIX, {"single": 0.5, "overlap": 0.5}])
def test_base_items_by_hand(mix):
    """What is drawn is one sound, two at once or two in order, each as it should sound."""
    bank = toy_bank([label for label in LABELS for _ in range(2)])
    batch = base_batch(bank, 300, lambda x: x, np.random.default_rng(0), augment=False, mix=mix)
    kinds, first, second = draw_base_items(bank.clips, 300, np.random.default_rng(0), mix)
    assert set(kinds) == set(mix)
    boundaries = np.linspace(2, 6, 300).round().astype(int)  # without augmentation they are evenly spread
    labels = bank.clips["label"]
    for n, (kind, i, j, at) in enumerate(zip(kinds, first, second, boundaries, strict=True)):
        named = {labels[i]} if kind == "single" else {labels[i], labels[j]}
        assert batch.events[n] == " + ".join(sorted(named))
        assert all(name in batch.captions[n] for name in named)
        expected = torch.zeros(8, HOP)
        if kind == "overlap":
            expected[:, [i, j]] = FULL / 2
        else:
            expected[:, i] = FULL
        if kind == "sequence":
            expected[at:, i], expected[at:, j] = 0, FULL
        torch.testing.assert_close(batch.log_mel[n], expected)


def test_kinds_and_clips_of_base_items():
    clips = toy_bank([label for label in LABELS for _ in range(2)]).clips
    kinds, first, second = draw_base_items(clips, 6000, np.random.default_rng(0))
    shares = dict(zip(*np.unique(kinds, return_counts=True), strict=True))
    assert shares == pytest.approx({"single": 1800, "overlap": 2100, "sequence": 2100}, rel=0.1)
    label = clips["label"].to_numpy()
    assert len(set(zip(first, second, strict=True))) == 8 * 6 and (label[first] != label[second]).all()
    with pytest.raises(ValueError, match="two labels; the clips have only 'dog'"):
        draw_base_items(clips.assign(label="dog"), 8, np.random.default_rng(0))


def test_no_frame_of_a_base_item_repeats():
    clips = np.random.default_rng(0).normal(size=(4, 20 * HOP)).astype(np.float32)
    batch = base_batch(bank_of(clips, LABELS, 20), 60, lambda x: x, np.random.default_rng(0), augment=False)
    assert all(len(item.unique(dim=0)) == 20 for item in batch.log_mel)


def test_base_captions_name_captioned_clips_by_a_drawn_caption():
    names = [["A bell", "ringing"], ["Rain falls", "drops"]]
    clips = pd.DataFrame({"label": ["a", "b"], "captions": [[f"{name}." for name in of] for of in names]})
    kinds, first = np.array(["single", "overlap", "sequence"] * 200), np.arange(600) % 2
    captions, events = base_captions(clips, kinds, first, 1 - first, np.random.default_rng(0))
    found = {kind: set(np.array(captions)[kinds == kind]) for kind in set(kinds)}
    assert found["single"] == {words.format(a=name) for words in SINGLE for of in names for name in of}
    both = [(x, y) for n in (0, 1) for x in names[n] for y in names[1 - n]]
    assert found["overlap"] == found["sequence"] == {w.format(a=x, b=y) for w in CONJUNCTION for x, y in both}
    assert events == ["ab"[n % 2] if kind == "single" else "a + b" for n, kind in enumerate(kinds)]


def test_captions_of_two_sounds_say_nothing_of_their_order():
    clips = pd.DataFrame({"label": ["a", "b"], "captions": [["a"], ["b"]]})
    kinds, first = np.array(["overlap", "sequence"] * 1000), np.arange(2000) // 2 % 2
    captions, _ = base_captions(clips, kinds, first, 1 - first, np.random.default_rng(0))
    in_order = np.array([caption.endswith("b") for caption in captions]) == (first == 0)
    for kind in ("overlap", "sequence"):
        assert binomtest(int(in_order[kinds == kind].sum()), 1000, 0.5).pvalue > 0.001
