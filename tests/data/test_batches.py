from __future__ import annotations

import collections
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from tclap import load_clips, load_model
from tclap.data.batches import (
    GAIN_DB,
    LONGEST,
    MASKED_BANDS,
    MASKED_FRAMES,
    SegmentBank,
    base_batch,
    base_captions,
    compose_power,
    composite_batch,
    mask_bands,
)
from tclap.data.captions import view_captions, view_events
from tclap.data.composites import VIEWS, ClipAudio, draw_pairs, place, render, render_single

CROP_ENERGY = 0.5
WINDOW, RATE = 4.0, 16000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small data set's bank, manifest and reader, and a randomly initialised model."""
    torch.manual_seed(0)
    model = load_model("compact", window=WINDOW)
    options = {"labels": ["dog", "rooster", "rain", "siren"], "clips_per_class": {"test": 2}, "workers": 1}
    clips = load_clips("synthetic", tmp_path_factory.mktemp("data"), **options)
    reader = ClipAudio(clips, RATE)
    pairs = place(draw_pairs(clips, "test", 12, seed=0), reader, WINDOW)
    bank = SegmentBank(clips, reader, model.audio_trunk.mel, WINDOW)
    return SimpleNamespace(model=model, clips=clips, reader=reader, pairs=pairs, bank=bank)


HOP = 10


def mean_power(waveforms, mels=3):
    """Stands for a mel spectrogram: the mean power of every ``HOP`` samples, the same in all bands."""
    frames = waveforms[:, : waveforms.shape[1] // HOP * HOP].unflatten(1, (-1, HOP))
    return frames.square().mean(2, keepdim=True).expand(-1, -1, mels)


def bank_of(waveforms, labels, window_frames):
    """A bank of the given waveforms, in frames of ``HOP`` samples; a segment is half the window."""

    class Audio:
        sample_rate = HOP

        def __call__(self, clip_id):
            return waveforms[int(clip_id)]

    clips = pd.DataFrame({"clip_id": [str(n) for n in range(len(labels))], "label": labels})
    return SegmentBank(clips, Audio(), mean_power, window_frames, CROP_ENERGY)


def toy_bank(labels, frames=4):
    """A bank of clips whose mel power is the clip's number everywhere, plus a hundredth of the frame's."""
    bank = bank_of([np.ones(frames * HOP, np.float32)] * len(labels), labels, 2 * frames)
    assert bank.power.shape == (len(labels), frames, 3)
    bank.power = torch.arange(1.0, len(labels) + 1)[:, None, None] + torch.arange(frames)[:, None] / 100
    bank.power = bank.power.expand(-1, -1, 3).clone()
    return bank


def test_bank_holds_the_mel_power_of_every_segment(made):
    bank = made.bank
    assert bank.power.shape == (8, 100, 64) and bank.power.dtype == torch.float32
    assert (bank.power >= 0).all() and not bank.power.is_inference()
    ids = list(made.clips["clip_id"][[3, 0, 7]])
    assert bank.rows(ids).tolist() == [3, 0, 7]
    segment = render_single(made.reader(ids[0]), WINDOW, RATE)[:32000]
    with torch.inference_mode():
        alone = made.model.audio_trunk.mel(torch.from_numpy(segment)[None])[0]
    torch.testing.assert_close(bank.segments(bank.rows(ids), None)[0], alone)


def test_composed_power_by_hand():
    first, second = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[5.0], [7.0]]])
    views = {v: compose_power(first, second, v).flatten().tolist() for v in (*VIEWS, "first")}
    assert views == {
        "forward": [1, 2, 5, 7],
        "reversed": [5, 7, 1, 2],
        "overlap": [3, 4.5, 3, 4.5],
        "first": [1, 2, 1, 2],
    }


def test_embeddings_of_composed_power_and_of_composed_waveforms_agree(made):
    model = made.model
    batch = composite_batch(made.bank, made.pairs, model.audio_trunk.mel.log, None)
    rows = made.pairs.to_dict("records")
    with torch.inference_mode():
        power = model.embed_audio(model.audio_trunk.from_log_mel(batch.log_mel)).unflatten(0, (3, -1))
        waves = torch.stack(
            [model.encode_audio(np.stack([render(r, v, made.reader) for r in rows])) for v in VIEWS]
        )
    cosine = (power * waves).sum(-1).mean(1)
    assert cosine[0] >= 0.99 and cosine[1] >= 0.99 and cosine[2] >= 0.98
    # A fresh model's embeddings are all alike; what is left without their mean must agree too.
    mean = waves.flatten(0, 1).mean(0)
    power, waves = (torch.nn.functional.normalize(x - mean, dim=-1) for x in (power, waves))
    cosine = torch.einsum("und,vnd->nuv", power, waves).mean(0)
    assert cosine[0, 0] >= 0.99 and cosine[1, 1] >= 0.99 and cosine[2, 2] >= 0.93
    assert cosine[~torch.eye(3, dtype=torch.bool)].max() < 0.5


def test_composite_batch_stacks_the_views_with_their_captions(made):
    batch = composite_batch(made.bank, made.pairs, lambda x: x, None)
    first, second = (made.bank.power[made.bank.rows(made.pairs[c])] for c in ("clip_i", "clip_j"))
    forward, backward, overlap = batch.log_mel.unflatten(0, (3, -1))
    torch.testing.assert_close(forward, torch.cat([first, second], 1))
    torch.testing.assert_close(backward, torch.cat([second, first], 1))
    torch.testing.assert_close(overlap[:, :100], (first + second) / 2)
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
    before = made.bank.power.clone()
    batch(2)
    assert torch.equal(made.bank.power, before)


@pytest.mark.parametrize("length", [60, 25, 20, 7, 150])
def test_segments_are_cut_rolled_and_change_their_level(length):
    """Clips of ``length`` frames, of which a segment has 20 and the bank keeps at most LONGEST segments."""
    frames = 20
    rng = np.random.default_rng(length)
    # A loud part of 30 frames, where there is room for one, and frames that differ.
    level = np.where((np.arange(length) > length - 35) & (np.arange(length) < length - 5), 1.0, 0.2)
    clip = np.repeat(level * rng.uniform(0.8, 1.2, length), HOP).astype(np.float32)
    bank = bank_of([clip, clip], ["a", "b"], 2 * frames)
    count = 1500
    rows = torch.arange(count) % 2
    assert torch.equal(bank.segments(rows, None), bank.power[rows])
    power = bank.segments(rows, np.random.default_rng(0))
    assert power.shape == (count, frames, 3) and torch.equal(power[..., 0], power[..., 2])

    reference = bank.power[0, :, 0].double().numpy()
    decibels = 10 * np.log10(power[..., 0].double().numpy().sum(1) / reference.sum())
    assert np.abs(decibels).max() <= GAIN_DB + 1e-3
    assert decibels.min() < -0.9 * GAIN_DB and decibels.max() > 0.9 * GAIN_DB

    whole = np.square(np.resize(clip, max(length, frames) * HOP).astype(np.float64)).reshape(-1, HOP).mean(1)
    cuts = {n: whole[n : n + frames] for n in range(len(whole) - frames + 1)}
    loudest = max(cut.sum() for cut in cuts.values())
    longest = LONGEST * frames
    if length > longest:
        kept = max(range(length - longest + 1), key=lambda n: whole[n : n + longest].sum())
        cuts = {n: cut for n, cut in cuts.items() if kept <= n <= kept + longest - frames}
    loud = {n: cut / cut.sum() for n, cut in cuts.items() if cut.sum() >= CROP_ENERGY * loudest}
    known = np.array([np.roll(cut, -shift) for cut in loud.values() for shift in range(frames)])
    drawn = power[..., 0].double().numpy()
    drawn /= drawn.sum(1, keepdims=True)
    distance = np.stack([np.abs(known - segment).max(1) for segment in drawn])
    assert distance.min(1).max() < 1e-6
    start, shift = np.divmod(distance.argmin(1), frames)
    assert len(set(start)) == len(loud) and set(shift) == set(range(frames))


def test_segments_of_silence_stay_silent():
    silent, noise = np.zeros(400, np.float32), np.random.default_rng(0).normal(size=400).astype(np.float32)
    bank = bank_of([silent, noise], ["a", "b"], 40)
    power = bank.segments(torch.tensor([0, 1, 0]), np.random.default_rng(0))
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


@pytest.fixture(scope="module")
def base():
    """Many base-type items of a toy bank without augmentation, taken apart."""
    bank = toy_bank([label for label in LABELS for _ in range(2)])
    batch = base_batch(bank, 6000, lambda x: x, np.random.default_rng(0), augment=False)
    start, middle = batch.log_mel[:, 0, 0], batch.log_mel[:, 4, 0]
    rows = []
    for n, (caption, events) in enumerate(zip(batch.captions, batch.events, strict=True)):
        # A clip's power starts with its number, the mean of two clips' with the mean of theirs.
        kind = "overlap" if start[n] == middle[n] else "sequence"
        if " and " not in caption:
            kind = "single"
        sounds = tuple(LABELS[int(x - 1) // 2] for x in (start[n], middle[n]))
        rows.append({"kind": kind, "caption": caption, "events": events, "sounds": sounds})
    return SimpleNamespace(batch=batch, items=pd.DataFrame(rows))


def test_base_items_are_of_three_kinds(base):
    assert base.batch.log_mel.shape == (6000, 8, 3)
    found = base.items["kind"].value_counts(normalize=True)
    assert found.to_dict() == pytest.approx({"single": 0.30, "overlap": 0.35, "sequence": 0.35}, abs=0.03)


def test_base_captions_name_what_sounds(base):
    for item in base.items.itertuples():
        if item.kind == "single":
            assert item.sounds[0] == item.sounds[1] == item.events
            assert item.caption.endswith(item.events)
        else:
            named = item.caption.removeprefix("this is a sound of ").split(" and ")
            assert item.events == " + ".join(sorted(set(named)))
            assert item.kind == "overlap" or set(item.sounds) == set(named)
    # Four labels make six unordered pairs, each in both kinds.
    double = base.items[base.items["kind"] != "single"]
    assert double.groupby("kind")["events"].nunique().tolist() == [6, 6]
    assert base.items["events"].nunique() == 10


def test_nothing_in_base_batches_tells_order_or_overlap_from_sequence(base):
    double = base.items[base.items["kind"] != "single"]
    wordings = {kind: set(group["caption"]) for kind, group in double.groupby("kind")}
    # Two templates of twelve ordered pairs.
    assert wordings["overlap"] == wordings["sequence"] and len(wordings["overlap"]) == 24
    sequence = double[double["kind"] == "sequence"]
    in_order = [
        item.caption.removeprefix("this is a sound of ").split(" and ")[0] == item.sounds[0]
        for item in sequence.itertuples()
    ]
    assert binomtest(sum(in_order), len(in_order), 0.5).pvalue > 0.001
    by_sounds = collections.defaultdict(set)
    for item in sequence.itertuples():
        by_sounds[item.sounds].add(item.caption)
    assert len(by_sounds) == 12 and all(len(captions) == 4 for captions in by_sounds.values())


def test_base_batch_is_the_generators():
    bank = toy_bank(LABELS, frames=20)
    one, again, other = (base_batch(bank, 64, torch.log, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.log_mel, again.log_mel)
    assert (one.captions, one.events) == (again.captions, again.events)
    assert one.captions != other.captions
    is_plain, is_blank = torch.isin(one.log_mel, torch.log(bank.power).unique()), one.log_mel == 0
    assert is_blank.any() and not (is_plain & ~is_blank).any()


def test_base_captions_name_captioned_clips_by_a_drawn_caption():
    clips = pd.DataFrame(
        {"label": ["a", "b"], "captions": [["A bell.", "ringing"], ["Rain falls.", "drops "]]}
    )
    kinds = np.array(["single", "overlap", "sequence"] * 200)
    first = np.arange(600) % 2
    captions, events = base_captions(clips, kinds, first, 1 - first, np.random.default_rng(0))
    names = {"a": {"A bell", "ringing"}, "b": {"Rain falls", "drops"}}
    prefix = "this is a sound of "
    doubles, singles = set(), set()
    for kind, row, caption, event in zip(kinds, first, captions, events, strict=True):
        if kind == "single":
            label = "ab"[row]
            assert event == label and caption.endswith(tuple(names[label]))
            singles.add(caption)
        else:
            one, other = caption.removeprefix(prefix).split(" and ")
            assert event == "a + b"
            assert {one, other} & names["a"] and {one, other} & names["b"]
            doubles.add((one, other))
    # Two captions each: four unordered combinations in either order, and five templates of four names.
    assert len(doubles) == 8 and len(singles) == 20


def test_base_items_in_other_shares():
    bank, mix = toy_bank([label for label in LABELS for _ in range(2)]), {"single": 0.5, "overlap": 0.5}
    batch = base_batch(bank, 400, lambda x: x, np.random.default_rng(0), augment=False, mix=mix)
    # Either half of a sequence is another clip; of a single sound and of an overlap both are alike.
    assert torch.equal(batch.log_mel[:, :4], batch.log_mel[:, 4:])
    assert 0.4 < np.mean([" and " in caption for caption in batch.captions]) < 0.6
    with pytest.raises(ValueError, match="two labels; the clips have only 'dog'"):
        base_batch(toy_bank(["dog", "dog"]), 8, torch.log, np.random.default_rng(0))
