"""What post-pretraining trains, and on what; fine-tuning in one call on recordings in a folder."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import tclap
from artifact import paths
from tclap import audio, files
from tclap.data.composites import ClipAudio
from tclap.models.compact import Compact
from tclap.training import post_pretraining
from tclap.training.features import AudioFeatures, FeatureStore, TextFeatures
from tclap.training.loop import order_metrics
from tclap.training.pool import Items, MelSource, Pool, WaveformSource, batch_rows, make_pool
from tclap.training.post_pretraining import DROPOUT, post_pretrain
from tclap.training.schedule import Schedule
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import VARIANTS, Variant, variant

# Losses in plain loops, in float64


def slow_loss(
    audio: Tensor, text: Tensor, scale: float, events: list[list[str]], weight, view_weights: list[float]
) -> float:
    """The two directions' mean of the view-weighted mean over anchors of ``[V, N, d]`` embeddings.

    ``weight(u, v, same_pair)`` is what an item of view v counts in the denominator of an anchor of view u.
    """
    audio, text = audio.detach().double(), text.detach().double()
    views, size = audio.shape[:2]
    total = 0.0
    for anchors, others in ((text, audio), (audio, text)):
        for u in range(views):
            for n in range(size):
                match = math.exp(scale * float(anchors[u, n] @ others[u, n]))
                denominator = match
                for v in range(views):
                    for m in range(size):
                        if events[v][m] != events[u][n]:
                            similarity = scale * float(anchors[u, n] @ others[v, m])
                            denominator += weight(u, v, n == m) * math.exp(similarity)
                total -= view_weights[u] / sum(view_weights) / size * math.log(match / denominator) / 2
    return total


def slow_loss_of(
    model, text: TextFeatures, items: Items, rows, alphas=(1.0,) * 4, view_weights=(1.0,) * 3
) -> float:
    """TNCE or, of items in one view, CLAP's loss; ``alphas`` are same, cross, same_overlap, cross_overlap."""

    def weight(u: int, v: int, same_pair: bool) -> float:
        if u == v:
            return 1.0
        same, cross = alphas[2:] if 2 in (u, v) else alphas[:2]
        return same if same_pair else cross

    views = range(items.features.shape[1])
    with torch.no_grad():
        audio = torch.stack([model.embed_audio(items.features[rows, v]) for v in views])
        words = torch.stack([model.embed_text(text([items.captions[r][v] for r in rows])) for v in views])
    events = [[items.events[r][v] for r in rows] for v in views]
    return slow_loss(audio, words, model.logit_scale.item(), events, weight, view_weights[: len(views)])


# Post-pretraining


@dataclass
class Setting:
    """What post-pretraining is given; ``start`` is the model before it, ``pools`` are by ``distinct``."""

    model: Compact
    start: Compact
    text: TextFeatures
    pools: dict[bool, tuple[Pool, Pool]]

    def run(
        self, settings: Variant, steps: int = 1, seed: int = 5, lr: float = 0.01, **options
    ) -> pd.DataFrame:
        self.model.load_state_dict(self.start.state_dict())
        pool, validation = self.pools[settings.distinct]
        history = post_pretrain(
            self.model, settings, self.text, pool, validation, Schedule(steps, lr, validate_every=1),
            **{"batch": 3, "replay_batch": 4, "text_loss": self.text_loss(), "text_loss_batch": 2} | options,
            seed=seed,
        )  # fmt: skip
        return history.drop(columns="items_per_second")  # the clock's, not the seed's

    def text_loss(self) -> TextOnlyLoss:
        return TextOnlyLoss(self.model, self.text, ["bell", "crow", "dog", "rain"], seed=2)


@pytest.fixture
def setting(tiny_model, banks) -> Setting:
    pools = {}
    for distinct in (False, True):
        post, check = MelSource(tiny_model, banks["post"]), MelSource(tiny_model, banks["validation"], False)
        pools[distinct] = (
            make_pool(post, pairs=14, base_items=20, seed=1, distinct=distinct),
            make_pool(check, pairs=7, base_items=9, seed=0, distinct=distinct, stage="validation"),
        )
    return Setting(tiny_model, copy.deepcopy(tiny_model), TextFeatures(tiny_model.text_trunk), pools)


EVERY, NONE = (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "alphas", "view_weights"),
    [
        ("t-clap", EVERY, [1.0, 1.0, 1.0]),
        ("t-clap-no-replay", EVERY, [1.0, 1.0, 1.0]),
        ("t-clap-no-overlap", (1.0, 1.0, 0.0, 0.0), [1.0, 1.0, 0.0]),
        ("t-clap-no-time", NONE, [1.0, 0.0, 0.0]),
        ("t-clap-distinct", EVERY, [1.0, 1.0, 1.0]),
        ("t-clap-alpha-same-0", (0.0, 1.0, 1.0, 1.0), [1.0, 1.0, 1.0]),
        ("t-clap-alpha-cross-0", (1.0, 0.0, 1.0, 1.0), [1.0, 1.0, 1.0]),
    ],
)
def test_the_first_step_of_each_variant_by_hand(setting, name, alphas, view_weights):
    settings = variant(name)
    pool, _ = setting.pools[settings.distinct]
    row = setting.run(settings, batch=8).iloc[0]
    size = 2 if settings.distinct else 8  # the four classes make groups of two pairs
    rows = batch_rows(len(pool.composites), size, 0, 5, whole=settings.distinct)
    ordered = [events for r in rows for events in pool.composites.events[r][:2]]
    assert settings.distinct == (len(set(ordered)) == len(ordered))  # else some mean the same: no negatives
    temporal = slow_loss_of(setting.start, setting.text, pool.composites, rows, alphas, view_weights)
    assert row["loss_temporal"] == pytest.approx(temporal, abs=1e-5)
    total = temporal
    if name == "t-clap-no-replay":
        assert "loss_replay" not in row
    else:
        replay = slow_loss_of(setting.start, setting.text, pool.base, batch_rows(20, 4, 0, 5))
        assert row["loss_replay"] == pytest.approx(replay, abs=1e-5)
        total += replay
    setting.model.load_state_dict(setting.start.state_dict())
    text_loss = sum(term.item() for term in setting.text_loss().losses(0, 2).values())
    assert row["loss_text"] == pytest.approx(text_loss, abs=1e-5)
    assert row["loss"] == pytest.approx(total + text_loss, abs=1e-4)
    assert row["logit_scale"] == pytest.approx(1 / 0.07, rel=1e-5)


def test_variants_tell_the_losses_apart(setting):
    losses = {
        name: setting.run(variant(name)).iloc[0]["loss_temporal"]
        for name in VARIANTS
        if name != "clap-continued"
    }
    # The replay adds to the temporal loss, and half of the classes is a matter of the pool.
    assert losses["t-clap"] == losses.pop("t-clap-no-replay") == losses.pop("t-clap-half")
    assert len({round(value, 5) for value in losses.values()}) == len(losses)


def test_the_replays_weight(setting):
    row = setting.run(Variant(replay=0.25), text_loss_batch=0).iloc[0]
    assert row["loss"] == pytest.approx(row["loss_temporal"] + 0.25 * row["loss_replay"], rel=1e-6)
    assert "loss_text" not in row


def test_the_control_has_claps_own_loss_on_as_many_items(setting):
    settings = variant("clap-continued")
    pool, validation = setting.pools[False]
    history = setting.run(settings, text_loss_batch=0)
    assert "loss_temporal" not in history and "loss_replay" not in history
    rows = batch_rows(20, 3 * 3 + 4, 0, 5)
    expected = slow_loss_of(setting.start, setting.text, pool.base, rows)
    assert history.iloc[0]["loss"] == pytest.approx(expected, abs=1e-5)
    # Of 13 items asked for, the validation pool has 9.
    expected = slow_loss_of(setting.model, setting.text, validation.base, np.arange(9))
    assert history.iloc[0]["validation_loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["t-clap", "t-clap-distinct"])
def test_the_model_ends_with_the_lowest_validation_loss(setting, name):
    settings = variant(name)
    # So fast that the last step is not the best, with either kind of batch.
    history = setting.run(settings, steps=6, lr=3.0 if settings.distinct else 10.0)
    _, validation = setting.pools[settings.distinct]
    size = 2 if settings.distinct else 3
    batches = (
        [np.arange(n, n + size) for n in (0, 2, 4) if n + size <= 6] if size == 2 else [[0, 1, 2], [3, 4, 5]]
    )
    temporal = [slow_loss_of(setting.model, setting.text, validation.composites, b) for b in batches]
    expected = float(np.mean(temporal)) + slow_loss_of(
        setting.model, setting.text, validation.base, np.arange(4)
    )
    losses = history["validation_loss"]
    assert losses.min() == pytest.approx(expected, abs=1e-4)
    assert losses.min() < losses.iloc[-1]


def test_the_order_metrics_are_of_all_validation_pairs(setting):
    row = setting.run(variant("t-clap")).iloc[0]
    _, validation = setting.pools[False]
    items = validation.composites
    with torch.no_grad():
        audio = [setting.model.embed_audio(items.features[:, v]) for v in range(3)]
        words = [setting.model.embed_text(setting.text([c[v] for c in items.captions])) for v in range(3)]
    right = sum(
        float(audio[u][n] @ words[u][n]) > float(audio[u][n] @ words[1 - u][n])
        for u in (0, 1)
        for n in range(7)
    )
    assert row["validation_two_way"] == pytest.approx(100 * right / 14)
    assert row["cosine_text"] == pytest.approx(float((words[0] * words[1]).sum(1).mean()), abs=1e-5)
    assert row["cosine_audio"] == pytest.approx(float((audio[0] * audio[1]).sum(1).mean()), abs=1e-5)


@pytest.mark.parametrize("name", ["t-clap", "clap-continued"])
def test_trunks_stay_and_heads_learn(setting, name):
    setting.run(variant(name), steps=2)
    before, after = setting.start.own_state(), setting.model.own_state()
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"audio_head", "text_head", "logit_scale"}
    trunks = [files.hash_state(model.audio_trunk.state_dict()) for model in (setting.start, setting.model)]
    assert trunks[0] == trunks[1]


def test_the_scale_is_clamped_after_every_step(setting):
    with torch.no_grad():
        setting.start.log_scale.fill_(math.log(400))
    history = setting.run(variant("t-clap"), steps=3)
    assert history["logit_scale"].iloc[0] == pytest.approx(400)
    assert history["logit_scale"].iloc[1:].max() <= 100 * (1 + 1e-6)
    assert setting.model.logit_scale.item() <= 100 * (1 + 1e-6)


def test_the_same_seed_the_same_history(setting):
    settings = variant("t-clap")
    first = setting.run(settings, steps=3)
    weights_of_first = files.hash_state(setting.model.own_state())
    pd.testing.assert_frame_equal(setting.run(settings, steps=3), first, check_exact=True)
    assert files.hash_state(setting.model.own_state()) == weights_of_first
    other = setting.run(settings, steps=3, seed=6)
    assert (other["loss_temporal"] != first["loss_temporal"]).all()


# A loss that is not finite


def test_items_that_are_not_finite_are_named(setting):
    pool, _ = setting.pools[False]
    rows = batch_rows(len(pool.composites), 3, 2, 5)
    pool.composites.features[rows[1], 2, 0, 0] = (
        math.nan
    )  # the overlap view of a pair that the third step takes first
    with pytest.raises(FloatingPointError) as caught:
        setting.run(variant("t-clap-no-replay"), steps=4)
    drawn = [step for step in range(3) if rows[1] in batch_rows(len(pool.composites), 3, step, 5)]
    caption = pool.composites.captions[rows[1]][2]
    assert f"at step {drawn[0]} (1 item(s) without a finite embedding: {caption!r} (audio))" in str(
        caught.value
    )
    assert all(torch.isfinite(parameter).all() for parameter in setting.model.parameters())


def test_captions_that_are_not_finite_are_named(setting):
    real = setting.text

    def text(captions: list[str]):
        tokens = real(captions)
        bad = torch.tensor(["bell" in caption for caption in captions])
        return tokens._replace(values=tokens.values.masked_fill(bad[:, None, None], math.inf))

    setting.text = text
    with pytest.raises(
        FloatingPointError, match=r"at step 0 \(\d+ item\(s\) without a finite embedding: .*bell.* \(text\)"
    ):
        setting.run(variant("clap-continued"), text_loss_batch=0)


def test_when_only_the_loss_is_not_finite_the_batch_is_named(setting, monkeypatch):
    pool, _ = setting.pools[False]
    monkeypatch.setattr(post_pretraining, "temporal_nce", lambda audio, *_, **__: audio.sum() * math.nan)
    caption = pool.composites.captions[batch_rows(len(pool.composites), 3, 0, 5)[0]][0]
    with pytest.raises(FloatingPointError) as caught:
        setting.run(variant("t-clap-no-replay"))
    assert f"(all embeddings are finite; items {caption!r}, " in str(caught.value)
    assert " and 6 more)" in str(caught.value)


# Dropout in the heads, and devices


class Dropping(nn.Module):
    """A head with dropout before it, which keeps what it let through in training."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head, self.let_through = head, []

    def forward(self, values):
        if not torch.is_tensor(values):
            return self.head(values._replace(values=nn.functional.dropout(values.values, 0.5, self.training)))
        dropped = nn.functional.dropout(values, 0.5, self.training)
        if self.training:
            self.let_through.append(dropped != 0)
        return self.head(dropped)


@pytest.fixture
def dropping(setting) -> Setting:
    for model in (setting.model, setting.start):
        model.audio_head, model.text_head = Dropping(model.audio_head), Dropping(model.text_head)
    return setting


def test_a_steps_dropout_is_drawn_from_its_seed_and_number(dropping):
    """The same draw whatever came before: other steps, other numbers, another state of torch."""
    head, pool = dropping.model.audio_head, dropping.pools[False][0]

    def drawn(**options) -> list[Tensor]:
        head.let_through.clear()
        dropping.run(variant("t-clap-no-replay"), **options)
        return list(head.let_through)

    torch.manual_seed(1)
    first = drawn(steps=4, lr=0.01)
    for step, mask in enumerate(first):
        rows = batch_rows(len(pool.composites), 3, step, 5)
        values = pool.composites.features[rows].transpose(0, 1).flatten(0, 1)
        with torch.random.fork_rng():
            torch.manual_seed(int(np.random.default_rng([5, DROPOUT, step]).integers(2**62)))
            expected = nn.functional.dropout(values, 0.5) != 0
        assert torch.equal(mask, expected) and 0.4 < mask.float().mean() < 0.6
    assert len({files.hash_state({"mask": mask}) for mask in first}) == 4
    torch.manual_seed(2)
    again = drawn(steps=6, lr=0.1)
    assert all(torch.equal(*masks) for masks in zip(first, again, strict=False)) and len(again) == 6
    assert not torch.equal(drawn(steps=1, seed=6)[0], first[0])


@pytest.mark.parametrize("name", ["t-clap", "clap-continued"])
def test_dropout_leaves_torchs_own_generator_alone(dropping, name):
    histories = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        histories.append(dropping.run(variant(name), steps=3))
        assert torch.equal(torch.get_rng_state(), before)
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    assert not dropping.model.training
    other = dropping.run(variant(name), steps=3, seed=6)
    assert (other["loss"] != histories[0]["loss"]).all()


def test_validation_is_without_dropout(dropping):
    row = dropping.run(variant("t-clap-no-replay"), batch=7).iloc[0]
    _, validation = dropping.pools[False]
    dropping.model.eval()
    temporal = slow_loss_of(dropping.model, dropping.text, validation.composites, np.arange(7))
    assert row["validation_loss"] == pytest.approx(temporal, abs=1e-5)
    dropping.start.eval()
    rows = batch_rows(len(dropping.pools[False][0].composites), 7, 0, 5)
    plain = slow_loss_of(dropping.start, dropping.text, dropping.pools[False][0].composites, rows)
    assert abs(row["loss_temporal"] - plain) > 1e-3  # the training loss is with it


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["t-clap", "clap-continued"])
def test_a_model_on_another_device_trains_on_features_from_the_cpu(setting, name):
    expected = setting.run(variant(name), steps=3, text_loss_batch=0)
    for model in (setting.model, setting.start):
        model.to("cuda")
    setting.text = TextFeatures(setting.model.text_trunk, device="cuda")
    before = torch.cuda.get_rng_state()
    found = setting.run(variant(name), steps=3, text_loss_batch=0)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert setting.model.log_scale.is_cuda and not setting.pools[False][0].base.features.is_cuda
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-3)


# Published models


def test_published_weights_are_left_alone(tiny_published, recorded):
    base = tiny_published
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    source = WaveformSource(AudioFeatures(base, recorded, ClipAudio(recorded, 8000)), recorded)
    pools = (make_pool(source, pairs=6, base_items=12, seed=7, stage=s) for s in ("post", "validation"))
    trained = base.with_readout("residual-segments")
    schedule = Schedule.of("published", 6, 0.01, epoch=3, validate_every=3)
    post_pretrain(
        trained, variant("t-clap"), base.text_trunk, *pools, schedule, batch=4, replay_batch=4, seed=0
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert trained.audio_trunk is base.audio_trunk and not trained.training
    own = trained.own_state()
    assert not any(name.startswith(("audio_trunk.", "text_trunk.")) for name in own)
    changed = {name for name in own if name in before and not torch.equal(own[name], before[name])}
    assert changed >= {"audio_head.inner.weight", "text_head.project.weight"}
    assert own["audio_head.order.outer.weight"].any()  # it was zero
    assert own["logit_scale"] != before["log_scale"]


# Fine-tuning

RATE = 8000
PITCHES = {"low hum": 200, "flute": 700, "whistle": 1900}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Ten tones of each of three pitches, with labels and a caption each."""
    folder, rows = tmp_path_factory.mktemp("recordings"), []
    for number, (label, pitch) in enumerate(PITCHES.items()):
        for n in range(10):
            rng = np.random.default_rng([number, n])
            tone = 0.2 * np.sin(2 * np.pi * pitch * rng.uniform(0.95, 1.05) * np.arange(3000) / RATE)
            audio.write_wav(folder / f"{label} {n}.wav", tone + 0.01 * rng.standard_normal(3000), RATE)
            rows.append({"file": f"{label} {n}.wav", "label": label, "caption": f"A {label}, take {n}."})
    table = pd.DataFrame(rows)
    table.drop(columns="caption").to_csv(folder / "clips.csv", index=False)
    table.drop(columns="label").to_csv(folder / "captions.csv", index=False)
    return folder


@pytest.fixture
def clips(recordings) -> pd.DataFrame:
    return tclap.load_clips("folder", recordings)


def tune(model, clips, **options) -> tuple[str, pd.DataFrame]:
    model = copy.deepcopy(model)
    history = tclap.fine_tune(model, clips, **{"epochs": 2, "batch": 8, "pairs": 20} | options)
    return files.hash_state(model.state_dict()), history.drop(columns="items_per_second")


@pytest.mark.parametrize(
    ("preset", "rates"), [("published", (1, 1, 0.95, 0.95)), ("cosine", (1, 1, 0.75, 0.25))]
)
def test_the_schedule_of_fine_tuning(tiny_model, clips, preset, rates):
    _, history = tune(tiny_model, clips, lr=3e-3, preset=preset)
    assert history["step"].tolist() == [0, 1, 2, 3]  # 20 pairs make two whole batches of 8 per epoch
    assert history["lr"].tolist() == pytest.approx([3e-3 * rate for rate in rates])
    assert history["validation_loss"].notna().tolist() == [False, True, False, True]


def test_a_store_changes_nothing_and_makes_nothing_twice(tiny_published, recorded, tmp_path):
    plain = tune(tiny_published, recorded)
    for n in range(2):
        model, store = copy.deepcopy(tiny_published), FeatureStore(tmp_path, torch.float32)
        model.audio_trunk.seen = model.text_trunk.seen = 0
        history = tclap.fine_tune(model, recorded, epochs=2, batch=8, pairs=20, store=store)
        assert (model.audio_trunk.seen == model.text_trunk.seen == 0) == (n == 1)
        pd.testing.assert_frame_equal(history.drop(columns="items_per_second"), plain[1], check_exact=True)
        assert files.hash_state(model.state_dict()) == plain[0]


def test_a_run_that_was_cut_off_continues(tiny_model, clips, tmp_path, monkeypatch):
    weights, history = tune(tiny_model, clips)
    validated = []

    def cut_off(*embeddings) -> dict[str, float]:
        validated.append(1)
        if len(validated) == 2:
            raise KeyboardInterrupt
        return order_metrics(*embeddings)

    with monkeypatch.context() as patch:
        patch.setattr(post_pretraining, "order_metrics", cut_off)
        with pytest.raises(KeyboardInterrupt):
            tune(tiny_model, clips, checkpoints=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002.pt"]
    resumed, again = tune(tiny_model, clips, checkpoints=str(tmp_path))
    pd.testing.assert_frame_equal(again, history)
    assert resumed == weights
    with pytest.raises(ValueError, match="choose another folder or remove it"):
        tune(tiny_model, clips, checkpoints=tmp_path, lr=0.1)


def test_micro_batches_and_chunks_give_the_same_training(tiny_model, clips):
    _, history = tune(tiny_model, clips)
    _, pieces = tune(tiny_model, clips, micro_batch=3, chunk_size=5)
    pd.testing.assert_frame_equal(pieces, history, rtol=1e-3, atol=1e-4)
    assert pieces["loss"].iloc[0] == pytest.approx(history["loss"].iloc[0], abs=1e-5)


def test_half_precision_learns_as_well(tiny_model, clips):
    _, history = tune(tiny_model, clips, lr=3e-3, epochs=6, precision="bf16")
    _, full = tune(tiny_model, clips, lr=3e-3, epochs=6)
    last, first = history["loss"].iloc[-2:].mean(), history["loss"].iloc[:2].mean()
    assert last < first - 0.1
    assert last == pytest.approx(full["loss"].iloc[-2:].mean(), abs=0.1)
    assert history["loss"].iloc[0] != full["loss"].iloc[0]


@pytest.mark.parametrize("limit", [8, 1])
def test_a_distinct_batch_holds_no_class_twice_nor_more_than_asked_for(
    tiny_model, clips, recordings, monkeypatch, limit
):
    seen = []
    monkeypatch.setattr(
        post_pretraining, "post_pretrain", lambda *args, **options: seen.append(args[3].group)
    )
    tclap.fine_tune(tiny_model, clips, variant="t-clap-distinct", batch=limit, pairs=12)
    many = tclap.load_clips("folder", recordings, csv="captions.csv")  # each clip a class of its own
    tclap.fine_tune(tiny_model, many, variant="t-clap-distinct", batch=limit, pairs=12)
    assert seen == [1, min(limit, len(many[many["split"] == "train"]) // 2)]


def test_captioned_clips_and_few_of_them(tiny_model, recordings):
    clips = tclap.load_clips("folder", recordings, csv="captions.csv")
    assert (clips["label"] == clips["clip_id"]).all()
    _, history = tune(tiny_model, clips, variant="t-clap-no-replay")
    assert np.isfinite(history["loss"]).all()
    few = pd.concat([part.head(2) for _, part in clips.groupby("split")])
    assert len(tune(tiny_model, few, epochs=1, pairs=None)[1]) == 1  # two clips make two pairs: one batch


@pytest.mark.parametrize(
    ("options", "word"), [({"preset": "paper"}, "preset"), ({"variant": "t-clop"}, "variant")]
)
def test_unknown_names_are_refused_before_any_work(tiny_model, clips, options, word):
    with pytest.raises(ValueError, match=word):
        tclap.fine_tune(tiny_model, clips.assign(path="nowhere"), **options)


def test_one_label_is_refused(tiny_model, clips):
    one = clips.assign(label=clips["label"].where(clips["split"] != "validation", "flute"))
    with pytest.raises(ValueError, match="validation clips have one label only"):
        tclap.fine_tune(tiny_model, one)


def test_the_readmes_lines_run(tiny_model, recordings, monkeypatch, capsys, tmp_path):
    readme = (paths.CHECKOUT / "docs" / "library.md").read_text(encoding="utf-8")
    blocks = [b for b in re.findall(r"(?:^    .*\n|^\n)+", readme, re.M) if "fine_tune(" in b]
    assert len(blocks) == 2
    code = re.sub("^    ", "", "".join(blocks), flags=re.M).replace('"recordings"', repr(str(recordings)))
    exported = []
    monkeypatch.setattr(type(tiny_model), "export", lambda self, path: exported.append(path), raising=False)
    monkeypatch.setattr(tclap, "load_model", lambda name: tiny_model, raising=False)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "library.md", "exec"), {})
    assert "2way_before" in capsys.readouterr().out
    assert (tmp_path / "mine.safetensors").is_file() and exported == ["mine.pth"]
    assert len(list((tmp_path / "checkpoints").glob("step-*"))) == 2
