"""How much faster than the msclap package's own way, on the same weights and the same clips?

Text, audio, the temporal tasks and post-pretraining against msclap's wrapper used item by item, as its
examples do, in the same run. Wants ESC-50 (ESC50_ROOT) and the tokenizers (TCLAP_HUB). Without official
weights random stand-ins are made, which take as long:

    python benchmarks/published_models.py [--name msclap-2023] [--weights CLAP_weights_2023.pth] [--threads 2]
        [--classes all] [--pairs 400]
"""

import argparse
import dataclasses
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
import transformers
from torch.nn.functional import normalize

from benchmarks import random_weights
from tclap import audio, load_clips, load_model
from tclap.data.captions import event_ids, view_captions, view_events
from tclap.data.composites import PROMPT, VIEWS, ClipAudio, draw_pairs, place, render
from tclap.data.conditions import waveform_of
from tclap.evaluation.benchmark import evaluate, questions, views_of
from tclap.evaluation.tasks import answered
from tclap.losses import temporal_nce
from tclap.models.base import AudioTextModel
from tclap.training.features import AudioFeatures, FeatureStore, TextFeatures
from tclap.training.loop import optimise
from tclap.training.pool import PAIRS as COMPOSITES
from tclap.training.pool import WaveformSource, batch_rows, make_pool
from tclap.training.post_pretraining import post_pretrain
from tclap.training.schedule import Schedule
from tclap.training.variants import variant

CAPTIONS, TIMED_CAPTIONS = 200, 10
CLIPS = 16
PAIRS, BATCH, EPOCHS, TIMED_STEPS = 32, 16, 10, 1


@contextmanager
def wrapper(version: str, weights: str) -> Iterator:
    """msclap's own wrapper, with soundfile for torchaudio and the text encoder built from its config."""

    def load(path):
        waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(waveform.T.copy()), rate

    stub = types.ModuleType("torchaudio")
    stub.load, stub.transforms = load, types.ModuleType("torchaudio.transforms")
    sys.modules |= {"torchaudio": stub, "torchaudio.transforms": stub.transforms}
    model, config = transformers.AutoModel, transformers.AutoConfig
    model.from_pretrained = lambda name: model.from_config(config.from_pretrained(name))
    weights, here = os.path.abspath(weights), os.getcwd()
    os.chdir(os.environ["TCLAP_HUB"])  # there the tokenizers' names are folders
    try:
        from msclap.CLAPWrapper import CLAPWrapper

        yield CLAPWrapper(weights, version=version)
    finally:
        os.chdir(here)


def timed(work: Callable):
    """Seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def row(what: str, theirs: float, ours: float, check: str) -> dict:
    """A row of the table."""
    return {
        "what": what,
        "msclap, s": theirs,
        "tclap, s": ours,
        "times faster": theirs / ours,
        "check": check,
    }


def text_row(model: AudioTextModel, theirs, labels: list[str]) -> dict:
    """Prompted captions, item by item against together."""
    captions = [PROMPT.format(f"{a} before {b}") for a, b in permutations(labels, 2)][:CAPTIONS]
    few = captions[:: len(captions) // TIMED_CAPTIONS][:TIMED_CAPTIONS]
    slow, expected = timed(lambda: torch.cat([theirs.get_text_embeddings([caption]) for caption in few]))
    fast, found = timed(lambda: model.encode_text(captions))
    found = found[[captions.index(caption) for caption in few]]
    difference = float((found - normalize(expected, dim=1)).abs().max())
    return row(
        f"{len(captions)} captions ({TIMED_CAPTIONS} timed item by item, scaled)",
        slow * len(captions) / len(few),
        fast,
        f"largest difference {difference:.1e}",
    )


def exact_clips(clips: pd.DataFrame, model: AudioTextModel, folder: Path) -> list[str]:
    """Real clips as files of exactly the window's length, of which the wrapper takes no random part."""
    paths, samples = [], round(model.window * model.sample_rate)
    for path in clips["path"].iloc[:: len(clips) // CLIPS][:CLIPS]:
        waveform = audio.repeat_to(audio.read(path, model.sample_rate), samples)
        paths.append(str(folder / f"{len(paths)}.wav"))
        audio.write_wav(paths[-1], waveform, model.sample_rate, "FLOAT")
    return paths


def audio_rows(model: AudioTextModel, theirs, paths: list[str]) -> list[dict]:
    """Clips, item by item against in batches, in full and in half precision."""
    slow, expected = timed(lambda: torch.cat([theirs.get_audio_embeddings([path]) for path in paths]))
    full, found = timed(lambda: model.encode_audio(paths))
    with torch.autocast("cpu", torch.bfloat16):
        half, rough = timed(lambda: model.encode_audio(paths))
    difference = float((found - normalize(expected, dim=1)).abs().max())
    cosine = float((found * rough).sum(1).min())
    what = f"{len(paths)} clips"
    return [
        row(f"{what}, fp32", slow, full, f"largest difference {difference:.1e}"),
        row(f"{what}, bf16", slow, half, f"smallest cosine with fp32 {cosine:.5f}"),
    ]


def evaluation_row(model: AudioTextModel, theirs, clips: pd.DataFrame, pairs: int, folder: Path) -> dict:
    """The suite ``tasks``: every item's sound and candidates through the wrapper, or each of them once."""
    fast, rows = timed(lambda: evaluate(model, clips, "tasks", pairs=pairs))
    test, drawn, items = questions(clips, pairs, 0)
    clip_audio = ClipAudio(test, model.sample_rate)
    composites = views_of(place(drawn, clip_audio, model.window), VIEWS)
    sampled = items.groupby("task").sample(1, random_state=0)
    path = str(folder / "sound.wav")

    def answer(item) -> float:
        waveform = waveform_of(composites.get(item.audio, item.audio), clip_audio, model.window)
        audio.write_wav(path, waveform, model.sample_rate, "FLOAT")
        sound = normalize(theirs.get_audio_embeddings([path]), dim=1)
        captions = normalize(theirs.get_text_embeddings(item.candidates), dim=1)
        return answered(item._asdict(), (captions @ sound[0]).double().numpy())["margin"]

    slow, gaps = 0.0, []
    ours = rows.set_index(["task", "item"])["margin"]
    for item in sampled.itertuples():
        seconds, margin = timed(lambda item=item: answer(item))
        slow += seconds * (items["task"] == item.task).sum()
        gaps.append(abs(margin - ours[item.task, item.item]))
    return row(
        f"{len(items)} items of the tasks ({len(sampled)} timed item by item, scaled)",
        slow,
        fast,
        f"margins differ by {np.nanmax(gaps):.1e}",
    )


def training_row(model: AudioTextModel, theirs, clips: pd.DataFrame) -> dict:
    """Post-pretraining: every composite and caption through the whole model in each step, or once.

    Without dropout, whose draws would differ between the two.
    """
    clip_audio, settings = ClipAudio(clips, model.sample_rate), variant("t-clap-no-replay")
    epoch = PAIRS // BATCH
    schedule = Schedule.of("published", EPOCHS * epoch, 1e-3, epoch=epoch, validate_every=epoch)
    ours = model.with_own_heads()
    for module in ours.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):  # of BERT's attention
            module.dropout_prob = 0.0

    def stored(folder: str) -> pd.DataFrame:
        store = FeatureStore(Path(folder), torch.float32)
        features = AudioFeatures(model, clip_audio, store)
        pools = [
            make_pool(WaveformSource(features, clips), pairs=n, base_items=4, seed=0, stage=stage)
            for stage, n in (("post", PAIRS), ("validation", 8))
        ]
        text = TextFeatures(model.text_trunk, pools[0].vocabulary | pools[1].vocabulary, store)
        return post_pretrain(ours, settings, text, *pools, schedule, batch=BATCH, replay_batch=4, seed=0)

    with tempfile.TemporaryDirectory() as folder:
        fast, kept = timed(lambda: stored(folder))
    drawn = draw_pairs(clips, "post", PAIRS, seed=0)
    manifest = place(drawn, clip_audio, model.window, seed=[0, COMPOSITES])  # as the pool does
    slow, whole = timed(lambda: in_full(model, theirs, manifest, clip_audio, schedule))
    gap = float((whole["loss"] - kept["loss"].iloc[: len(whole)]).abs().max())
    return row(
        f"{EPOCHS} epochs of {PAIRS} pairs ({TIMED_STEPS} of {schedule.steps} steps timed in full, scaled)",
        slow * schedule.steps / TIMED_STEPS,
        fast,
        f"losses of {len(whole)} steps differ by {gap:.1e}",
    )


def in_full(model, theirs, manifest: pd.DataFrame, clip_audio: ClipAudio, schedule: Schedule) -> pd.DataFrame:
    """The straightforward loop: the package's model and tokens, everything computed in every step."""
    words = view_captions(manifest, np.random.default_rng([0, COMPOSITES]))
    events, records = view_events(manifest), manifest.to_dict("records")
    clap = theirs.clap.requires_grad_(False)
    heads = ("audio_head.", "text_head.", "log_scale")
    trained = {model.official_name(name) for name, _ in model.named_parameters() if name.startswith(heads)}
    parameters = [p.requires_grad_(True) for name, p in clap.named_parameters() if name in trained]

    def losses(step: int) -> dict:
        rows = batch_rows(PAIRS, BATCH, step, 0)
        waveforms = np.stack([render(records[r], view, clip_audio) for view in VIEWS for r in rows])
        # In parts, or 96 clips would need more memory than there is.
        sounds = torch.cat([clap.audio_encoder(part)[0] for part in torch.from_numpy(waveforms).split(16)])
        tokens = theirs.preprocess_text([words[v][r] for v in range(3) for r in rows])
        ids = torch.from_numpy(event_ids([events[v][r] for v in range(3) for r in rows]))
        embeddings = [
            normalize(x, dim=1).unflatten(0, (3, -1)) for x in (sounds, clap.caption_encoder(tokens))
        ]
        return {"loss": temporal_nce(*embeddings, clap.logit_scale.exp(), events=ids.reshape(3, -1))}

    short = dataclasses.replace(schedule, steps=TIMED_STEPS, validate_every=TIMED_STEPS + 1)
    return optimise(parameters, losses, short, "in full", module=clap)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", choices=random_weights.CLASSES, default="msclap-2022")
    parser.add_argument("--weights", help="a checkpoint in the official format; random stand-ins without")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--classes", default="auto", help="of ESC-50, as load_clips takes them")
    parser.add_argument("--pairs", type=int, default=50, help="composites of the tasks")
    options = parser.parse_args()
    missing = [name for name in ("ESC50_ROOT", "TCLAP_HUB") if not os.environ.get(name)]
    if missing:
        print(f"Left out: {' and '.join(missing)} must be set, to real clips and tokenizers.")
        return
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        weights = options.weights or str(random_weights.write(options.name, Path(folder) / "weights.pth"))
        measure(options, weights)


def measure(options: argparse.Namespace, weights: str) -> None:
    """Run what was asked for and print the table."""
    clips = load_clips("esc50", classes=options.classes)
    model = load_model(options.name, weights)
    rows = []
    with wrapper(options.name.removeprefix("msclap-"), weights) as theirs:
        rows.append(text_row(model, theirs, sorted(clips["label"].unique())))
        with tempfile.TemporaryDirectory() as folder:
            rows += audio_rows(model, theirs, exact_clips(clips, model, Path(folder)))
            rows.append(evaluation_row(model, theirs, clips, options.pairs, Path(folder)))
        rows.append(training_row(model, theirs, clips))
    print(f"{options.name}, {options.threads} threads")
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
