"""Everything that is asked of a seed's models: tasks, prompts, retrieval, window policies.

Test audio is composed as waveforms and goes through the frozen trunk once; each model's heads
then embed it. All models of a seed have the base model's trunk, which is checked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from artifact import provenance
from artifact.captioned import captioned_sets
from artifact.experiment import Experiment
from artifact.model_folder import is_up_to_date, write_stamp
from tclap import files
from tclap.data.clips import for_stage
from tclap.data.composites import VIEWS, Phrase, place, render
from tclap.evaluation import controls
from tclap.evaluation import tasks as zste
from tclap.evaluation.embedded import Embedded
from tclap.evaluation.galleries import retrieval_rows
from tclap.models.base import AudioTextModel
from tclap.progress import progress
from tclap.training.audio_features import Features
from tclap.training.variants import BASE, POLICY_SEPARATOR, READOUT_PREFIX

log = logging.getLogger(__name__)

POLICY_TASKS = ("2way_before", "2way_after", "3", "4")
POLICY_MODELS = (BASE, "t-clap")
CONTROL_MODELS = (BASE, "clap-continued", "t-clap", "t-clap-half")
SIMILARITY_PAIRS = 6
BLOCK = 256
TABLES = ("results.parquet", "retrieval.parquet", "similarity.parquet", "example.npz", "example.json")


class TestAudio:
    """The test audio's trunk outputs, by name: clip ids, and ``<pair_id>/<view>``."""

    __test__ = False  # not a test class

    def __init__(self, experiment: Experiment, model: AudioTextModel) -> None:
        self.experiment, self.model = experiment, model
        self.clips = for_stage(experiment.clips, "test")
        self.pairs = experiment.table("data/pairs-test.parquet")
        composites = views_of(self.pairs, VIEWS)
        self.rows = {name: n for n, name in enumerate([*self.clips["clip_id"], *composites])}
        self.features = experiment.audio_features(model).outputs(
            [*self.clips["clip_id"], *composites.values()], "test audio through the trunk"
        )
        self._policies: dict[str, dict[str, Tensor]] = {}

    @cached_property
    def control_pairs(self) -> pd.DataFrame:
        """The pairs of which the controls ask."""
        return self.pairs.head(self.experiment.config.control_pairs)

    @cached_property
    def controls(self) -> tuple[list[str], Features]:
        """Names and trunk outputs of the controls' audio."""
        return self.arranged()

    def arranged(self, tasks: Sequence[str] | None = None) -> tuple[list[str], Features]:
        """Names and trunk outputs of the controls' audio; None: of all ``tasks``."""
        experiment = self.experiment
        sounds = controls.arrangements(
            self.clips,
            self.control_pairs,
            experiment.audio,
            self.model.window,
            seed=experiment.config.data_seed,
        )
        if tasks is not None:
            asked = experiment.table("data/controls.parquet")
            wanted = set(asked.loc[asked["task"].isin(tasks), "audio"])
            sounds = {name: sound for name, sound in sounds.items() if name in wanted}
        features = experiment.audio_features(self.model)
        return list(sounds), features.outputs(list(sounds.values()), "controls' audio through the trunk")

    def under_policy(self, policy: str, wanted: set[str]) -> dict[str, Tensor]:
        """Trunk outputs ``[1, T, D]`` of the same pairs under another window policy, by name."""
        if policy not in self._policies:
            experiment, trunk = self.experiment, self.model.audio_trunk
            gap = (experiment.config.gap_ms[0], experiment.config.gap_ms[1])
            pairs = place(
                self.pairs,
                experiment.audio,
                self.model.window,
                policy=policy,
                gap_ms=gap,
                seed=experiment.config.data_seed,
            )
            items = {name: item for name, item in views_of(pairs, VIEWS[:2]).items() if name in wanted}
            # Whole clips differ in length, and a batch has one.
            with torch.inference_mode():
                self._policies[policy] = {
                    name: trunk(torch.from_numpy(render(*item, experiment.audio))[None].to(self.device)).cpu()
                    for name, item in progress(list(items.items()), f"window policy {policy}")
                }
        return self._policies[policy]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.log_scale.device


def views_of(pairs: pd.DataFrame, views: Sequence[str]) -> dict[str, tuple[dict, str]]:
    """What :func:`tclap.data.composites.render` needs of each pair's views, by ``<pair_id>/<view>``."""
    return {f"{row['pair_id']}/{view}": (row, view) for row in pairs.to_dict("records") for view in views}


class Encoded(Embedded):
    """One model's embeddings of the run's captions and of test audio, from trunk outputs."""

    def __init__(
        self, experiment: Experiment, model: AudioTextModel, features: Features, rows: dict[str, int]
    ) -> None:
        self.experiment, self.model = experiment, model
        super().__init__(rows, self.embed_audio(features))

    def embed_audio(self, features: Features) -> Tensor:
        """Embeddings ``[N, d]`` on the CPU, from trunk outputs."""
        device = self.model.log_scale.device
        with torch.inference_mode():
            return torch.cat(
                [
                    self.model.embed_audio(features[n : n + BLOCK].to(device)).cpu()
                    for n in range(0, len(features), BLOCK)
                ]
            )

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings ``[N, d]`` on the CPU, from the run's text features."""
        blocks = [captions[n : n + BLOCK] for n in range(0, len(captions), BLOCK)]
        with torch.inference_mode():
            text = self.experiment.text
            return torch.cat([self.model.embed_captions(block, text).cpu() for block in blocks])


def evaluate_seed(experiment: Experiment, seed: int, names: Sequence[str] | None = None) -> None:
    """Evaluate a seed's models (notebook 04) and write its tables, unless they are there.

    Args:
        experiment: the run.
        seed: which.
        names: the variants; None: all of the profile. The base model is always among them.
    """
    config = experiment.config
    variants = list(config.variants if names is None else names)
    readouts = [READOUT_PREFIX + r for r in config.readouts]
    models = list(dict.fromkeys([BASE, *variants, *readouts]))
    folder = experiment.folder / f"seed{seed}"
    base, made_of = experiment.load(seed), evaluated_from(experiment, seed, models)
    if is_up_to_date(folder / "evaluated.json", made_of, TABLES, f"evaluation, seed {seed}"):
        return
    test = TestAudio(experiment, base)
    items = experiment.table("data/items.parquet")
    results, queries, similarities, examples = [], [], [], {}
    searched = captioned_sets(experiment)
    trunk = files.hash_state(base.audio_trunk.state_dict())
    for name in progress(models, "evaluation"):
        model = experiment.load(seed, name)
        if files.hash_state(model.audio_trunk.state_dict()) != trunk:
            raise ValueError(f"{name}, seed {seed}: its audio trunk is not the base model's; train it again.")
        encoded = Encoded(experiment, model, test.features, test.rows)
        results.append(encoded.answers(items).assign(model=name, seed=seed))
        if name not in readouts:
            rows = [
                retrieval_rows(encoded, test.clips, test.pairs),
                *(found.query_rows(model) for found in searched),
            ]
            queries += [part.assign(model=name, seed=seed) for part in rows]
        if name in CONTROL_MODELS and len(test.control_pairs):
            results.append(all_control_rows(encoded, test, results[-1]).assign(model=name, seed=seed))
        if name in POLICY_MODELS:
            similarities.append(similarity_rows(encoded, test).assign(model=name, seed=seed))
            examples[name] = example_cosines(encoded, test)
            results += [
                rows.assign(model=f"{name}{POLICY_SEPARATOR}{policy}", seed=seed)
                for policy, rows in policy_rows(encoded, test, items).items()
            ]
    files.write_table(folder / "results.parquet", pd.concat(results, ignore_index=True))
    files.write_table(folder / "retrieval.parquet", pd.concat(queries, ignore_index=True))
    files.write_table(folder / "similarity.parquet", pd.concat(similarities, ignore_index=True))
    write_example(folder, base, test, examples)
    write_stamp(folder / "evaluated.json", made_of)


def evaluated_from(experiment: Experiment, seed: int, models: Sequence[str]) -> dict:
    """Everything that an evaluation of models is a function of."""
    config = experiment.config
    tables = ("clips", "pairs-test", "items", "controls")
    sidecars = {name: experiment.sidecar(seed, name) for name in models}
    return {
        "models": {name: [facts["config"], facts["weights_hash"]] for name, facts in sidecars.items()},
        "data": [files.sha256_file(experiment.folder / f"data/{name}.parquet") for name in tables],
        "config": config.model_dump(),
        "captioned": {name: os.environ.get(f"{name.upper()}_ROOT") for name in config.retrieval_sets},
        "code": provenance.hash_code(
            "artifact/captioned.py",
            "artifact/evaluation.py",
            "tclap/audio.py",
            "tclap/data",
            "tclap/evaluation",
            "tclap/models",
            "tclap/training",
        ),
    }


def all_control_rows(encoded: Encoded, test: TestAudio, answers: pd.DataFrame) -> pd.DataFrame:
    """Rows of the controls, and those of the class hold-out, from the answers to the tasks."""
    experiment = encoded.experiment
    items = experiment.table("data/controls.parquet")
    experiment.text.add(caption for asked in items["candidates"] for caption in asked)
    names, features = test.controls
    encoded.add_sounds(names, encoded.embed_audio(features))
    rows = controls.control_rows(encoded, items, test.control_pairs)
    held_out = controls.hold_out_rows(answers[list(rows.columns)], test.pairs, experiment.seen_labels)
    return pd.concat([rows, held_out], ignore_index=True)


def look(experiment: Experiment, seed: int, names: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answers and small similarity matrices of a few models of a seed; nothing is written."""
    test = TestAudio(experiment, experiment.load(seed))
    items = experiment.table("data/items.parquet")
    answers, similarities = [], []
    for name in names:
        encoded = Encoded(experiment, experiment.load(seed, name), test.features, test.rows)
        answers.append(encoded.answers(items).assign(model=name, seed=seed))
        similarities.append(similarity_rows(encoded, test).assign(model=name, seed=seed))
    return pd.concat(answers, ignore_index=True), pd.concat(similarities, ignore_index=True)


def decibels(model: AudioTextModel, waveform: np.ndarray) -> np.ndarray:
    """Mel spectrogram ``[mels, frames]`` of a waveform as the model sees it, in dB."""
    with torch.inference_mode():
        batch = torch.from_numpy(waveform)[None].to(model.log_scale.device)
        return model.audio_trunk.decibels(batch)[0].T.cpu().numpy()


def policy_rows(encoded: Encoded, test: TestAudio, items: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The order tasks on the same pairs under the other window policies."""
    chosen = items[items["task"].isin(POLICY_TASKS)]
    encoded.add_captions([c for candidates in chosen["candidates"] for c in candidates])
    answers = {}
    for policy in encoded.experiment.config.window_policies:
        if policy == "fit":
            continue
        features = test.under_policy(policy, set(chosen["audio"]))
        rows = {name: n for n, name in enumerate(features)}
        audio = torch.cat([encoded.embed_audio(feature) for feature in features.values()])
        answers[policy] = zste.score_items(chosen, rows, audio, encoded.text_rows, encoded.text)
    return answers


def similarity_rows(encoded: Encoded, test: TestAudio) -> pd.DataFrame:
    """Cosines of a few pairs' captions and composites, both orders side by side."""
    pairs = test.pairs.drop_duplicates(["label_i", "label_j"]).head(SIMILARITY_PAIRS)
    captions, names, events = [], [], []
    for pair in pairs.to_dict("records"):
        forward = Phrase(pair["label_i"], "before", pair["label_j"])
        for view, words in (("forward", forward), ("reversed", forward.inverted)):
            captions.append(words)
            names.append(f"{pair['pair_id']}/{view}")
            events.append(words.events)
    cosines = encoded.captions([c.text() for c in captions]) @ encoded.sounds(names).T
    return pd.DataFrame(
        [
            {
                "row": r,
                "column": c,
                "row_caption": captions[r].text("{}"),
                "column_event": events[c],
                "similarity": float(cosines[r, c]),
            }
            for r in range(len(captions))
            for c in range(len(names))
        ]
    )


def example_pair(test: TestAudio) -> dict:
    """The composite that is shown in full: the first of the test pairs."""
    return test.pairs.iloc[0].to_dict()


def example_cosines(encoded: Encoded, test: TestAudio) -> dict[str, dict[str, float]]:
    """Cosines of the example's two orders with every wording of its events (named bare, asked prompted)."""
    pair = example_pair(test)
    a, b = pair["label_i"], pair["label_j"]
    words = [Phrase(x, r, y) for r in ("before", "after", "while") for x, y in ((a, b), (b, a))]
    captions = [w.text("{}") for w in words]
    cosines = (
        encoded.captions([w.text() for w in words])
        @ encoded.sounds([f"{pair['pair_id']}/{v}" for v in VIEWS[:2]]).T
    )
    return {
        view: {caption: float(row[n]) for caption, row in zip(captions, cosines, strict=True)}
        for n, view in enumerate(VIEWS[:2])
    }


def write_example(
    folder: Path,
    model: AudioTextModel,
    test: TestAudio,
    cosines: Mapping[str, Mapping[str, dict[str, float]]],
) -> None:
    """Write the example's spectrograms in dB (``example.npz``) and cosines (``example.json``)."""
    pair = example_pair(test)
    pictures = {
        f"{view}_mel": decibels(model, render(pair, view, test.experiment.audio)) for view in VIEWS[:2]
    }
    rate = model.sample_rate
    with files.replacing(folder / "example.npz") as temporary:
        np.savez(
            temporary,
            frame_seconds=model.audio_trunk.hop / rate,
            boundary_seconds=(pair["length_i"] + pair["gap"] / 2) / rate,
            **pictures,
        )
    by_view = {
        view: {
            caption: {name: cosines[name][view][caption] for name in cosines}
            for caption in next(iter(cosines.values()))[view]
        }
        for view in VIEWS[:2]
    }
    words = {"first": pair["label_i"], "second": pair["label_j"], "pair_id": pair["pair_id"]}
    words |= {"captions": by_view["forward"], "captions_reversed": by_view["reversed"]}
    files.write_json(folder / "example.json", words)
