"""The bridge to mteb: its audio encoders as models here, the questions about order as tasks there.

mteb (Muennighoff et al., EACL 2023, arXiv 2210.07316; its audio part MAEB) has tasks of order for images and
video and none for audio. :func:`order_tasks` makes two from any clips table::

    import mteb
    from tclap.evaluation.mteb import AudioTextEncoder, order_tasks

    tasks = order_tasks(tclap.load_clips("esc50", root), sample_rate=44_100, window=5.0)
    mteb.evaluate(AudioTextEncoder(model), tasks, cache=None)

Needs ``pip install mteb``, 2.26 or newer.
"""

from typing import Any

import mteb
import numpy as np
import pandas as pd
import torch
from datasets import Dataset, Features, Value
from mteb.abstasks import AbsTaskRetrieval
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction
from torch.utils.data import DataLoader

from tclap import audio
from tclap.data.composites import VIEWS, ClipAudio, place, render
from tclap.evaluation.benchmark import questions, views_of
from tclap.evaluation.item_set import VERSION
from tclap.evaluation.retrieval import ordered_items
from tclap.models.encoder import Encoder
from tclap.models.wrapped import wrap

SPLIT = "test"


class AudioTextEncoder(AbsEncoder):
    """A model of this library as an encoder that ``mteb.evaluate`` takes.

    Args:
        model: with ``encode_audio(list of waveforms)``, ``encode_text(list of captions)`` and
            ``sample_rate`` in Hz, such as what :func:`tclap.load_model` and :func:`tclap.wrap` return.
        name: in mteb's results, of the form ``organisation/model``.
    """

    def __init__(self, model: Any, name: str = "tclap/model") -> None:
        self.model = model
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": name,
                "revision": "local",
                "modalities": ["audio", "text"],
                "similarity_fn_name": ScoringFunction.COSINE,
            }
        )

    def encode(self, inputs: DataLoader, **options: Any) -> torch.Tensor:
        """Embeddings ``[N, d]`` of the batches' ``audio`` or ``text``."""
        return torch.cat([self._encoded(batch) for batch in inputs])

    def _encoded(self, batch: dict) -> torch.Tensor:
        if "audio" not in batch:
            return self.model.encode_text(list(batch["text"]))
        rate = self.model.sample_rate
        waveforms = [
            audio.resample(np.asarray(item["array"], np.float32), item["sampling_rate"], rate)
            for item in batch["audio"]
        ]
        return self.model.encode_audio(waveforms)


def from_encoder(encoder: Any, sample_rate: int, window: float) -> Encoder:
    """An audio encoder of mteb as a model of this library: what :func:`tclap.wrap` returns.

    Args:
        encoder: with mteb's ``encode``, such as ``mteb.get_model("laion/clap-htsat-fused")``.
        sample_rate, window: as of :func:`tclap.wrap`.
    """
    return wrap(_Encoded(encoder, sample_rate), sample_rate, window)


class _Encoded:
    """What :func:`tclap.wrap` takes, by mteb's ``encode``."""

    def __init__(self, encoder: Any, sample_rate: int) -> None:
        self._encoder, self._sample_rate = encoder, sample_rate

    def encode_audio(self, waveforms: list) -> Any:
        sounds = {f"{n}": waveform for n, waveform in enumerate(waveforms)}
        return self._encode(_sounds(sounds, self._sample_rate))

    def encode_text(self, captions: list[str]) -> Any:
        return self._encode(Dataset.from_dict({"text": captions}))

    def _encode(self, rows: Dataset) -> Any:
        # mteb's encoders tell the modality from the table's columns.
        batches = DataLoader(rows, batch_size=len(rows), collate_fn=_collated)
        return self._encoder.encode(
            batches, task_metadata=OrderTwoWay.metadata, hf_split=SPLIT, hf_subset="default"
        )


def _collated(rows: list[dict]) -> dict:
    return {column: [row[column] for row in rows] for column in rows[0]}


def _metadata(**own: Any) -> mteb.TaskMetadata:
    return mteb.TaskMetadata(
        reference="https://arxiv.org/abs/2404.17806",
        dataset={"path": "local", "revision": VERSION},
        eval_splits=[SPLIT],
        eval_langs=["eng-Latn"],
        date=None,
        domains=["AudioScene"],
        task_subtypes=None,
        license=None,
        annotations_creators="derived",
        dialect=[],
        modalities=["audio", "text"],
        sample_creation="created",
        bibtex_citation="",
        **own,
    )


class _OrderTask(AbsTaskRetrieval):
    """A task whose sounds, captions and answers are given, not downloaded."""

    def __init__(self, sounds: dict[str, np.ndarray], rate: int, captions: list[str], answers: dict) -> None:
        super().__init__()
        self._given = sounds, rate, captions, answers

    def load_data(self, *args: Any, **options: Any) -> None:
        """Lay the sounds and captions out as queries, corpus and relevant documents."""
        sounds, rate, captions, answers = self._given
        texts = Dataset.from_dict({"id": captions, "text": captions})
        heard = _sounds(sounds, rate)
        asked, searched = (heard, texts) if self.metadata.category == "a2t" else (texts, heard)
        given = {"queries": asked, "corpus": searched, "top_ranked": None}
        given["relevant_docs"] = {query: dict.fromkeys(found, 1) for query, (found, _) in answers.items()}
        if all(candidates for _, candidates in answers.values()):
            given["top_ranked"] = {query: candidates for query, (_, candidates) in answers.items()}
        self.dataset = {"default": {SPLIT: given}}
        self.data_loaded = True


class OrderTwoWay(_OrderTask):
    """Given a recording of two successive sounds, rank "A before B" and "B before A"."""

    metadata = _metadata(
        name="TClapOrderTwoWay",
        description="Two captions that differ in order alone, ranked by a recording of two sounds.",
        type="AudioReranking",
        category="a2t",
        main_score="hit_rate_at_1",
    )


class OrderRetrieval(_OrderTask):
    """Given "A before B", "B after A" or "A while B", find the recordings among those of all orders."""

    metadata = _metadata(
        name="TClapOrderRetrieval",
        description="Recordings of two sounds in either order or at once, searched by captions.",
        type="Any2AnyRetrieval",
        category="t2a",
        main_score="hit_rate_at_1",
    )


def order_tasks(
    clips: pd.DataFrame, *, sample_rate: int, window: float, pairs: int = 400, seed: int = 0
) -> list[AbsTaskRetrieval]:
    """The 2-way questions and the retrieval of order as tasks of mteb, on the table's test clips.

    The composites are those of :func:`tclap.evaluate` with the same ``pairs``, ``seed``, rate and window.

    Args:
        clips: the clips table; its labels name the sounds in the captions.
        sample_rate, window: of the recordings, in Hz and seconds.
        pairs: number of composites; at most as many as the clips make are used.
        seed: of the composites.
    """
    test, drawn, items = questions(clips, pairs, seed)
    load = ClipAudio(test, sample_rate)
    composites = views_of(place(drawn, load, window, seed=seed), VIEWS)
    sounds = {name: render(*composite, load) for name, composite in composites.items()}
    two_way = items[items["task"] == "2way_before"]
    two = {q.audio: ([q.candidates[q.answers[0]]], q.candidates) for q in two_way.itertuples()}
    captions, searched = ordered_items(drawn)
    search = {c.name: ([s.name for s in searched if s.event == c.event], None) for c in captions}
    return [
        OrderTwoWay(
            {name: sounds[name] for name in two},
            sample_rate,
            sorted(set(two_way["candidates"].explode())),
            two,
        ),
        OrderRetrieval(sounds, sample_rate, sorted(search), search),
    ]


def _sounds(sounds: dict[str, np.ndarray], rate: int) -> Dataset:
    """A table ``id, audio`` whose audio reads as ``{"array": float32 [samples], "sampling_rate": Hz}``."""
    features = Features(
        {
            "id": Value("string"),
            "audio": {"array": [Value("float32")], "sampling_rate": Value("int64")},
        }
    )
    rows = [{"id": name, "audio": {"array": wave, "sampling_rate": rate}} for name, wave in sounds.items()]
    table = Dataset.from_list(rows, features=features)
    return table.with_format("numpy", columns=["audio"], output_all_columns=True)
