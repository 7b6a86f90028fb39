"""The evaluation of a seed's models: tasks, prompts, controls, retrieval, window policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from artifact import made, provenance
from artifact.captioned import captioned_sets
from artifact.clips import content_of, hashed, load_captioned
from artifact.embeddings import RunEmbeddings, TestAudio, device_of
from artifact.experiment import DATA_SEED, Experiment
from artifact.training import BASES
from tclap import files
from tclap.data.clips import for_stage
from tclap.data.composites import TARGET_RMS, VIEWS, Phrase, place, render
from tclap.evaluation import controls
from tclap.evaluation.benchmark import views_of
from tclap.evaluation.embeddings import Embeddings
from tclap.evaluation.retrieval import retrieval_rows
from tclap.evaluation.tasks import score_items
from tclap.models.base import AudioTextModel
from tclap.progress import progress
from tclap.training.variants import BASE, POLICY_SEPARATOR, READOUT_PREFIX, variant

POLICY_TASKS = ("2way_before", "2way_after", "3", "4")
POLICY_MODELS = (BASE, "t-clap")
CONTROL_MODELS = (BASE, "clap-continued", "clap-ordered", "t-clap", "t-clap-more-wordings")
SIMILARITY_PAIRS = 6
TABLES = ("results.parquet", "retrieval.parquet", "similarity.parquet", "example.npz", "example.json")


def evaluate_seed(experiment: Experiment, seed: int, names: Sequence[str] | None = None) -> None:
    """Evaluate a seed's models (notebook 04) and write its tables, unless they are there.

    Args:
        experiment: the run.
        seed: which.
        names: the variants; None: all of the profile. The base model is always among them.
    """
    experiment = experiment.at(seed)
    config = experiment.config
    everything = config.variant_names(seed)
    readouts = [name for name in everything if name.startswith(READOUT_PREFIX)]
    chosen = everything if names is None else [*names, *readouts]
    models = list(dict.fromkeys([*config.starts, *chosen]))
    folder = experiment.folder / f"seed{seed}"
    stamp = made.Stamp(folder / "evaluated.json", evaluated_from(experiment, seed, models))
    if stamp.is_current(f"evaluation, seed {seed}"):
        return
    items, searched = experiment.table("data/items.parquet"), captioned_sets(experiment)
    results, queries, similarities, examples = [], [], [], {}
    start = None
    # Models that share a trunk one after the other: the test audio goes through each trunk once.
    for name in progress(sorted(models, key=start_of), "evaluation"):
        model = experiment.load(seed, name)
        if start != start_of(name):
            start = start_of(name)
            test = TestAudio(experiment, experiment.load(seed, start))
            policies = policy_features(test, items) if start == BASE else {}
        embeddings = test.embeddings(model)
        results.append(score_items(items, embeddings).assign(model=name))
        if name in readouts or start != BASE:
            continue
        queries.append(retrieval_rows(embeddings, test.clips, test.pairs).assign(model=name))
        queries += [found.query_rows(model).assign(model=name) for found in searched]
        if name in CONTROL_MODELS and len(test.control_pairs):
            results.append(control_rows_of(embeddings, test).assign(model=name))
        if name in POLICY_MODELS:
            similarities.append(similarity_rows(embeddings, test.pairs).assign(model=name))
            examples[name] = example_cosines(embeddings, test.pairs)
            results += policy_rows(embeddings, policies, items, name)
        if name == BASE:
            shown = test
    results = [pd.concat(results, ignore_index=True).astype({"correct": float})]  # some are fractions
    for name, parts in (("results", results), ("retrieval", queries), ("similarity", similarities)):
        files.write_table(folder / f"{name}.parquet", pd.concat(parts, ignore_index=True).assign(seed=seed))
    write_example(folder, shown, examples)
    stamp.write([folder / name for name in TABLES])


def evaluated_from(experiment: Experiment, seed: int, models: Sequence[str], *code: str) -> dict:
    """Everything that an evaluation of models is a function of, with the source ``code`` that is its own."""
    config = experiment.config
    tables = [experiment.path(f"data/{name}.parquet") for name in ("pairs-test", "items", "controls")]
    captioned = load_captioned(config.retrieval_sets)
    return {
        "models": {name: experiment.made(seed, name)["products"] for name in models},
        "clips": content_of(for_stage(experiment.clips, "test")),
        "data": [files.sha256_file(table) for table in tables],
        "config": config.model_dump(),
        "captioned": {name: content_of(hashed(clips)) for name, clips in captioned.items()},
        "code": provenance.hash_code(
            *(f"artifact/{name}.py" for name in ("captioned", "embeddings", "evaluation")),
            *(f"tclap/{name}" for name in ("audio.py", "data", "evaluation", "models", "training")),
            *code,
        ),
    }


def quick_evaluate(experiment: Experiment, seed: int, names: Sequence[str]) -> pd.DataFrame:
    """Answers of the base model and variants of it to all tasks; nothing is written."""
    experiment = experiment.at(seed)
    test, items = TestAudio(experiment, experiment.load(seed)), experiment.table("data/items.parquet")
    answers = []
    for name in names:
        embeddings = test.embeddings(experiment.load(seed, name))
        answers.append(score_items(items, embeddings).assign(model=name, seed=seed))
    return pd.concat(answers, ignore_index=True)


def quick_similarity(experiment: Experiment, seed: int, names: Sequence[str]) -> pd.DataFrame:
    """Small similarity matrices of a few models of a seed, see :func:`similarity_rows`."""
    experiment = experiment.at(seed)
    pairs, found = shown_pairs(experiment.table("data/pairs-test.parquet")), []
    sounds = views_of(pairs, VIEWS[:2])
    for name in names:
        model = experiment.load(seed, name)
        features = experiment.audio_features(model).outputs([*sounds.values()], "composites")
        embeddings = RunEmbeddings(experiment, model, sounds, features)
        found.append(similarity_rows(embeddings, pairs).assign(model=name, seed=seed))
    return pd.concat(found, ignore_index=True)


def start_of(name: str) -> str:
    """The base model whose trunk a model has."""
    return name if name in BASES else variant(name).base


def control_rows_of(embeddings: RunEmbeddings, test: TestAudio) -> pd.DataFrame:
    """Rows of the controls and of the order-blind baseline."""
    experiment = test.experiment
    items, asked = (experiment.table(f"data/{name}.parquet") for name in ("items", "controls"))
    experiment.learn_control_captions()
    sounds, features = test.controls
    embeddings.add_sounds(sounds, embeddings.embed_sounds(sounds, features))
    rows = [
        controls.control_rows(embeddings, asked, test.control_pairs),
        controls.order_blind_rows(embeddings, items, experiment.labels),
    ]
    # Where there is no task 4 the second has no rows, and no types.
    return pd.concat([part for part in rows if len(part)], ignore_index=True)


def policy_features(test: TestAudio, items: pd.DataFrame) -> dict[str, dict[str, Tensor]]:
    """Trunk outputs ``[1, T, D]`` of the order tasks' sounds under the other window policies, by name."""
    config, audio, model = test.experiment.config, test.experiment.audio, test.model
    wanted = set(items.loc[items["task"].isin(POLICY_TASKS), "audio"])
    found: dict[str, dict[str, Tensor]] = {}
    for policy in (policy for policy in config.window_policies if policy != "fit"):
        placed = {"policy": policy, "seed": DATA_SEED}
        sounds = views_of(place(test.pairs, audio, model.window, **placed), VIEWS[:2])
        sounds = [(name, sound) for name, sound in sounds.items() if name in wanted]
        found[policy] = {}
        for name, sound in progress(sounds, f"window policy {policy}"):
            # Whole clips differ in length, so that each is a batch of its own.
            waveform = torch.from_numpy(render(*sound, audio))[None].to(device_of(model))
            with torch.inference_mode():
                found[policy][name] = model.audio_trunk(waveform).cpu()
    return found


def policy_rows(
    embeddings: RunEmbeddings,
    policies: Mapping[str, Mapping[str, Tensor]],
    items: pd.DataFrame,
    name: str,
) -> list[pd.DataFrame]:
    """The order tasks on the same pairs under each of the other window policies."""
    chosen, found = items[items["task"].isin(POLICY_TASKS)], []
    for policy, features in policies.items():
        audio = torch.cat([embeddings.embed_audio(feature) for feature in features.values()])
        embeddings.add_sounds([f"{policy}/{sound}" for sound in features], audio)
        rows = score_items(chosen.assign(audio=f"{policy}/" + chosen["audio"]), embeddings)
        found.append(rows.assign(model=f"{name}{POLICY_SEPARATOR}{policy}"))
    return found


def shown_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs of which similarity matrices are shown: the first few of different labels."""
    return pairs.drop_duplicates(["label_i", "label_j"]).head(SIMILARITY_PAIRS)


def similarity_rows(embeddings: Embeddings, pairs: pd.DataFrame) -> pd.DataFrame:
    """Cosines of a few pairs' captions and composites, both orders side by side."""
    captions, names = [], []
    for pair in shown_pairs(pairs).to_dict("records"):
        forward = Phrase(pair["label_i"], "before", pair["label_j"])
        captions += [forward, forward.inverted]
        names += [f"{pair['pair_id']}/forward", f"{pair['pair_id']}/reversed"]
    cosines = (embeddings.captions([c.text() for c in captions]) @ embeddings.sounds(names).T).tolist()
    cells = [
        (r, c, row.text("{}"), column.events, cosines[r][c])
        for r, row in enumerate(captions)
        for c, column in enumerate(captions)
    ]
    return pd.DataFrame(cells, columns=["row", "column", "row_caption", "column_event", "similarity"])


def decibels(model: AudioTextModel, waveform: np.ndarray) -> np.ndarray:
    """Mel spectrogram ``[mels, frames]`` of a waveform as the model sees it, in dB."""
    with torch.inference_mode():
        batch = torch.from_numpy(waveform)[None].to(device_of(model))
        return model.audio_trunk.decibels(batch)[0].T.cpu().numpy()


def receptive_field(model: AudioTextModel, parts: int = 100) -> float:
    """Seconds of sound that an output of the audio trunk depends on, measured on a window of noise.

    Each of the window's ``parts`` is changed in turn. Counted are those that change the middle output by 2 %
    of the largest change or more: normalisation over the whole window reaches further, and weakly.
    """
    samples = round(model.window * model.sample_rate)
    noise = TARGET_RMS * np.random.default_rng(0).standard_normal((2, samples)).astype(np.float32)
    noise[0, 0] = 1.0  # the peak, which some models scale to 1
    edges = np.linspace(1, samples, parts + 1).round().astype(int)
    changed = np.repeat(noise[:1], parts, axis=0)
    for row, start, end in zip(changed, edges[:-1], edges[1:], strict=True):
        row[start:end] = noise[1, start:end]
    waveforms = torch.from_numpy(np.concatenate([noise[:1], changed])).split(16)
    with torch.inference_mode():
        outputs = torch.cat([model.audio_trunk(block.to(device_of(model))).cpu() for block in waveforms])
    middle = outputs[:, outputs.shape[1] // 2].double()
    change = (middle[1:] - middle[0]).norm(dim=1)
    return model.window * float((change >= 0.02 * change.max()).float().mean())


def example_captions(pairs: pd.DataFrame) -> list[Phrase]:
    """Every wording of the two events of the composite that is shown in full, the first of the pairs."""
    a, b = pairs["label_i"].iloc[0], pairs["label_j"].iloc[0]
    return [Phrase(x, r, y) for r in ("before", "after", "while") for x, y in ((a, b), (b, a))]


def example_cosines(embeddings: Embeddings, pairs: pd.DataFrame) -> Tensor:
    """Cosines ``[captions, 2]`` of the example's captions and two orders."""
    sounds = embeddings.sounds(f"{pairs['pair_id'].iloc[0]}/{view}" for view in VIEWS[:2])
    return embeddings.captions([words.text() for words in example_captions(pairs)]) @ sounds.T


def write_example(folder: Path, test: TestAudio, cosines: Mapping[str, Tensor]) -> None:
    """Write the example's spectrograms in dB (``example.npz``) and cosines (``example.json``)."""
    model, pair = test.model, test.pairs.iloc[0].to_dict()
    rate = model.sample_rate
    views = {view: render(pair, view, test.experiment.audio) for view in VIEWS[:2]}
    with files.replacing(folder / "example.npz") as temporary:
        np.savez(
            temporary,
            frame_seconds=model.audio_trunk.hop / rate,
            boundary_seconds=(pair["length_i"] + pair["gap"] / 2) / rate,
            **{f"{view}_mel": decibels(model, waveform) for view, waveform in views.items()},
        )
    example = {"first": pair["label_i"], "second": pair["label_j"], "pair_id": pair["pair_id"]}
    example["receptive_seconds"] = receptive_field(model)
    for column, key in enumerate(("captions", "captions_reversed")):
        example[key] = {
            words.text("{}"): {name: float(found[row, column]) for name, found in cosines.items()}
            for row, words in enumerate(example_captions(test.pairs))
        }
    files.write_json(folder / "example.json", example)
