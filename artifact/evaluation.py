"""The evaluation of a seed's models: tasks, prompts, controls, retrieval, window policies.

Notebook 04 evaluates the trained models, notebook 05 two of them with slots, where nothing is trained. The
caption reader of these (``reader.safetensors`` beside this file, made by ``python -m tclap.slots.training
--held-out``) learned neither a word of the classes' names nor the wordings that the evaluation holds out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from artifact import made, provenance
from artifact.clips import content_of, hashed, load_captioned
from artifact.embeddings import CaptionedSet, RunEmbeddings, TestAudio, device_of
from artifact.experiment import DATA_SEED, SLOTS, Experiment
from artifact.training import BASES
from tclap import files
from tclap.data.composites import TARGET_RMS, VIEWS, Phrase, place, render
from tclap.evaluation import controls
from tclap.evaluation.benchmark import views_of
from tclap.evaluation.embeddings import Embeddings
from tclap.evaluation.retrieval import retrieval_rows
from tclap.evaluation.tasks import score_items
from tclap.models.base import AudioTextModel
from tclap.progress import progress
from tclap.slots.model import SlotModel
from tclap.training.variants import BASE, POLICY_SEPARATOR, READOUT_PREFIX, variant

POLICY_TASKS = ("2way_before", "2way_after", "3", "4")
POLICY_MODELS = (BASE, "t-clap")
CONTROL_MODELS = (BASE, "clap-continued", "clap-ordered", "t-clap", "t-clap-more-wordings")
SWAPPED = {"2way_before": "slots: swapped, before", "2way_after": "slots: swapped, after"}
SIMILARITY_PAIRS = 6
# From none to half of the window is silent between the two events.
DISTANCES = ("boundary: 50%", "gap: 5%", "gap: 25%", "near: neither")


def evaluate_seed(experiment: Experiment, seed: int, names: Sequence[str] | None = None) -> None:
    """Evaluate a seed's models (notebook 04) and write its tables, unless they are there.

    Args:
        experiment: the run.
        seed: which.
        names: the variants; None: all of the profile. The base model is always among them.
    """
    experiment = experiment.at(seed)
    everything = experiment.config.variant_names(seed)
    readouts = [name for name in everything if name.startswith(READOUT_PREFIX)]
    chosen = everything if names is None else [*names, *readouts]
    models = list(dict.fromkeys([*experiment.config.starts, *chosen]))
    stamp = stamp_of(experiment, seed, "evaluation", models)
    if stamp.is_current():
        return
    items = experiment.table("data/items.parquet")
    captioned = load_captioned(experiment.config.retrieval_sets)
    searched = [CaptionedSet(experiment, name, clips) for name, clips in captioned.items()]
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
        if name in readouts and len(test.control_pairs):
            results.append(distance_rows(embeddings, test).assign(model=name))
        if name in readouts or start != BASE:
            continue
        queries.append(retrieval_rows(embeddings, test.clips, test.pairs).assign(model=name))
        queries += [found.query_rows(model).assign(model=name) for found in searched]
        if name in CONTROL_MODELS:
            results += [rows.assign(model=name) for rows in control_rows_of(embeddings, test)]
        if name in POLICY_MODELS:
            similarities.append(similarity_rows(embeddings, test.pairs).assign(model=name))
            examples[name] = example_cosines(embeddings, test.pairs)
            results += policy_rows(embeddings, policies, items, name)
        if name == BASE:
            shown = test
    found = {"results": results, "retrieval": queries, "similarity": similarities}
    example = write_example(shown, examples) if seed == experiment.config.seeds[0] else ()
    stamp.write({name: _joined(rows, seed) for name, rows in found.items()}, *example)


def slot_models(experiment: Experiment, seed: int) -> dict[str, SlotModel]:
    """The seed's models with slots, by name; ValueError for a profile without slots."""
    there = (BASE, *experiment.config.variants)
    return {name: experiment.load_slots(seed, name) for name, (start, _) in SLOTS.items() if start in there}


def evaluate_slots(experiment: Experiment, seed: int) -> pd.DataFrame:
    """Evaluate the seed's models with slots (notebook 05) on all tasks and controls, and write their tables.

    Returns the item rows; existing ones of the same models are reused. In the tasks ``slots: swapped, ...``
    the sounds' first and last slots have changed places: a control that has to reverse the 2-way answers.
    """
    experiment = experiment.at(seed)
    models = slot_models(experiment, seed)
    stamp = stamp_of(experiment, seed, "order_from_text", [SLOTS[name][0] for name in models])
    if stamp.is_current():
        return experiment.table(f"seed{seed}/slots-results.parquet")
    test, items = TestAudio(experiment, experiment.load(seed)), experiment.table("data/items.parquet")
    results, queries = [], []
    for name, model in progress(list(models.items()), "evaluation of slots"):
        embeddings = test.embeddings(model)
        rows = [score_items(items, embeddings), *control_rows_of(embeddings, test)]
        results += [part.assign(model=name) for part in (*rows, swapped_rows(embeddings, items))]
        queries.append(retrieval_rows(embeddings, test.clips, test.pairs).assign(model=name))
    found = _joined(results, seed)
    stamp.write({"slots-results": found, "slots-retrieval": _joined(queries, seed)})
    return found


def _joined(rows: Sequence[pd.DataFrame], seed: int) -> pd.DataFrame:
    found = pd.concat(rows, ignore_index=True).assign(seed=seed)
    return found.astype({"correct": float}) if "correct" in found else found  # some are fractions


def stamp_of(experiment: Experiment, seed: int, step: str, models: Sequence[str]) -> made.Stamp:
    """The stamp of a step's evaluation of models: of everything that this is a function of."""
    config = experiment.config
    tables = [experiment.path(f"data/{name}.parquet") for name in ("pairs-test", "items", "controls")]
    captioned = load_captioned(config.retrieval_sets)
    inputs = {
        "models": {name: experiment.made(seed, name)["products"] for name in models},
        "clips": content_of(experiment.clips),
        "data": [files.sha256_file(table) for table in tables],
        "config": config.model_dump(),
        "captioned": {name: content_of(hashed(clips)) for name, clips in captioned.items()},
        "code": provenance.hash_code(*provenance.CODE[step]),
    }
    path = experiment.folder / f"seed{seed}" / f"{step}.json"
    return made.Stamp(path, f"{step.replace('_', ' ')}, seed {seed}", inputs)


def quick_evaluate(experiment: Experiment, seed: int, names: Sequence[str]) -> pd.DataFrame:
    """Answers of the base model and variants of it to all tasks; nothing is written."""
    experiment = experiment.at(seed)
    test, items = TestAudio(experiment, experiment.load(seed)), experiment.table("data/items.parquet")
    found = {name: score_items(items, test.embeddings(experiment.load(seed, name))) for name in names}
    return pd.concat([rows.assign(model=name, seed=seed) for name, rows in found.items()], ignore_index=True)


def quick_similarity(experiment: Experiment, seed: int, names: Sequence[str]) -> pd.DataFrame:
    """Small similarity matrices of a few models of a seed, see :func:`similarity_rows`."""
    experiment = experiment.at(seed)
    pairs, found = shown_pairs(experiment.table("data/pairs-test.parquet")), []
    sounds = views_of(pairs, VIEWS[:2])
    for name in names:
        model = experiment.load(seed, name)
        embeddings = RunEmbeddings(experiment, model, sounds, experiment.outputs(model, sounds, "composites"))
        found.append(similarity_rows(embeddings, pairs).assign(model=name, seed=seed))
    return pd.concat(found, ignore_index=True)


def start_of(name: str) -> str:
    """The base model whose trunk a model has."""
    return name if name in BASES else variant(name).base


def control_rows_of(embeddings: RunEmbeddings, test: TestAudio) -> list[pd.DataFrame]:
    """Rows of the controls and of the order-blind baseline, where the profile has controls."""
    if not len(test.control_pairs):
        return []
    experiment = test.experiment
    items, asked = (experiment.table(f"data/{name}.parquet") for name in ("items", "controls"))
    experiment.learn_control_captions()
    sounds, features = test.controls
    embeddings.add_sounds(sounds, embeddings.embed_sounds(sounds, features))
    rows = [
        controls.control_rows(embeddings, asked, test.control_pairs),
        controls.order_blind_rows(embeddings, items, experiment.labels),
    ]
    return [part for part in rows if len(part)]  # without task 4 the second has no rows, and no types


def distance_rows(embeddings: RunEmbeddings, test: TestAudio) -> pd.DataFrame:
    """Rows of the controls :data:`DISTANCES`."""
    experiment = test.experiment
    items = experiment.table("data/controls.parquet")
    items = items[items["task"].isin(DISTANCES)]
    experiment.learn_control_captions()
    sounds, features = test.controls
    places = {name: n for n, name in enumerate(sounds)}
    names = list(items["audio"].unique())
    chosen = {name: sounds[name] for name in names}
    embeddings.add_sounds(names, embeddings.embed_sounds(chosen, features[[places[name] for name in names]]))
    return score_items(items, embeddings)


def swapped_rows(embeddings: RunEmbeddings, items: pd.DataFrame) -> pd.DataFrame:
    """Rows of the tasks of :data:`SWAPPED`, by a model with slots."""
    chosen, model = items[items["task"].isin(SWAPPED)], embeddings.model
    names = list(chosen["audio"].unique())
    whole, *slots, rest = embeddings.sounds(names).split([model.base.dim] * (model.slots + 1) + [1], dim=1)
    embeddings.add_sounds([f"swapped {n}" for n in names], torch.cat([whole, *slots[::-1], rest], dim=1))
    rows = score_items(chosen.assign(audio="swapped " + chosen["audio"]), embeddings)
    return rows.assign(task=rows["task"].map(SWAPPED))


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
        audio = torch.cat([embeddings.embed_features(feature) for feature in features.values()])
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


def write_example(test: TestAudio, cosines: Mapping[str, Tensor]) -> tuple[Path, Path]:
    """Write the example's spectrograms in dB (``example.npz``) and cosines (``example.json``): the paths."""
    model, pair, folder = test.model, test.pairs.iloc[0].to_dict(), test.experiment.folder
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
    return folder / "example.npz", folder / "example.json"
