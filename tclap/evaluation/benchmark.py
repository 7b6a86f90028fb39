"""The temporal benchmark in one call, for any audio-language model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tclap import files
from tclap.arguments import at_least, rows_of
from tclap.data.clips import content_hash, for_stage, has_labels, listing, require
from tclap.data.composites import VIEWS, ClipAudio, draw_pairs, place, possible_pairs
from tclap.data.conditions import Sound, waveform_of
from tclap.evaluation import controls
from tclap.evaluation.embeddings import ModelEmbeddings
from tclap.evaluation.item_set import fingerprint
from tclap.evaluation.retrieval import hit_rows, retrieval_rows
from tclap.evaluation.tasks import ROW_COLUMNS, TASKS, build_items, order_items, score_items
from tclap.models.wrapped import given

SUITES = ("tasks", "controls", "retrieval")


def evaluate(
    model: Any,
    clips: pd.DataFrame,
    suite: str | Sequence[str] = "tasks",
    *,
    pairs: int = 400,
    control_pairs: int = 200,
    seed: int = 0,
    name: str = "model",
    sample_rate: int | None = None,
    window: float | None = None,
    keep: str | Path | None = None,
    contents: str | None = None,
) -> pd.DataFrame:
    """Answer the temporal benchmark on the test clips; each distinct sound and caption is encoded once.

    The suites are ``tasks`` (:mod:`tclap.evaluation.tasks`, with the order-blind baseline of task 4),
    ``controls`` (:mod:`tclap.evaluation.controls`) and ``retrieval`` (:mod:`tclap.evaluation.retrieval`).
    Clips without labels (each its own event) have questions about order alone: tasks 3, 2-way and overlap,
    and the controls of two events; retrieval asks for them by their captions.
    :func:`tclap.evaluation.statistics.summarise` makes accuracies with intervals of the rows.

    Args:
        model: any object with ``encode_audio(list of [samples] float32 waveforms) -> [N, d]`` and
            ``encode_text(list of captions) -> [N, d]``, such as an
            :class:`~tclap.models.base.AudioTextModel`.
        clips: the clips table; its test split is used.
        suite: one suite's name, several, or ``full`` for all.
        pairs: number of composites, at least 1; at most as many as the clips make are used.
        control_pairs: how many of these the controls use, at least 1.
        seed: of the composites and candidates.
        name: of the model, in the rows.
        sample_rate, window: in Hz and seconds, of the waveforms that the model takes; None: its
            attributes of these names.
        keep: folder of this model's embeddings, and no other's: those that are there are not computed
            again, whatever the suite; None: nothing is kept.
        contents: :func:`~tclap.data.clips.content_hash` of the test clips, where it is known already; else
            it is computed if embeddings are kept.

    Returns:
        One tidy row per item, with the columns of :func:`tclap.evaluation.tasks.score_items`, ``model``
        and ``seed``; retrieval's rows lack some. ``correct`` is a number from 0 to 1: a mean over wordings
        or an average precision lies between. ``attrs["items"]`` is the questions' fingerprint
        (:mod:`tclap.evaluation.item_set`).

    Raises:
        ValueError: on an unknown suite, numbers below 1, when the test clips make no pair of different
            labels or one is called as a composite is, when the rate or window is unknown, or on embeddings
            of a wrong shape or that are not finite.
    """
    at_least(1, pairs=pairs, control_pairs=control_pairs)
    suites = (suite,) if isinstance(suite, str) else tuple(rows_of(suite, "suites"))
    if not suites or not all(chosen in (*SUITES, "full") for chosen in suites):
        raise ValueError(f"suite is {suite!r}, expected among {listing((*SUITES, 'full'))}.")
    suites = SUITES if "full" in suites else suites
    rate, seconds = given(model, "sample_rate", sample_rate), given(model, "window", window)
    test, drawn, asked_items = questions(clips, pairs, seed)
    audio = ClipAudio(test, rate)
    manifest = place(drawn, audio, seconds, seed=seed)
    asked = manifest.head(control_pairs)
    singles = dict(zip(test["clip_id"], test["clip_id"], strict=True))
    composites: dict[str, Sound] = dict(views_of(manifest, VIEWS))
    items = {}
    if "tasks" in suites:
        items["tasks"] = asked_items
    if "controls" in suites:
        items["controls"] = controls.build_items(test, asked, seed=seed)
        composites |= controls.arrangements(test, asked, audio, seconds, seed=seed)
    if taken := singles.keys() & composites.keys():
        raise ValueError(f"a clip and a composite are both called {listing(taken)}: rename the clip.")
    sounds: dict[str, Sound] = singles | composites
    if "retrieval" not in suites:
        wanted = {sound for table in items.values() for sound in table["audio"]}
        sounds = {name: sound for name, sound in sounds.items() if name in wanted}
    folders = None
    if keep is not None:
        settings = (control_pairs, seed, rate, seconds)
        folders = _folders(Path(keep), contents or content_hash(test), drawn, settings)
    embeddings = ModelEmbeddings(
        model, list(sounds), lambda sound: waveform_of(sounds[sound], audio, seconds), folders
    )
    parts = []
    if "tasks" in suites:
        rows = score_items(items["tasks"], embeddings)
        parts.append(rows.sort_values("task", key=lambda tasks: tasks.map(TASKS.index), kind="stable"))
        if "4" in set(items["tasks"]["task"]):
            labels = sorted(test["label"].unique())
            parts.append(controls.order_blind_rows(embeddings, items["tasks"], labels))
    if "controls" in suites:
        parts.append(controls.control_rows(embeddings, items["controls"], asked))
    if "retrieval" in suites:
        parts.append(hit_rows(retrieval_rows(embeddings, test, manifest)))
    rows = pd.concat(parts, ignore_index=True).infer_objects()  # pandas 3: strings, whatever the suites
    rows = rows.reindex(columns=ROW_COLUMNS).assign(model=name, seed=seed)
    # Retrieval's rows have neither ties nor margins.
    rows = rows.astype({"tied": "boolean"}) if "retrieval" in suites else rows
    rows.attrs["items"] = fingerprint(drawn, asked_items)
    return rows


def questions(clips: pd.DataFrame, pairs: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The test clips, ``pairs`` drawn pairs of them (as many as there are) and the tasks' items.

    Raises:
        ValueError: when the test clips make no pair of different labels.
    """
    at_least(0, seed=seed)
    require(clips)
    test = for_stage(clips, "test")
    available = possible_pairs(test)
    if not available:
        raise ValueError(
            f"the {len(test)} test clip(s) make no pair of different labels, expected two labels."
        )
    drawn = draw_pairs(test, "test", min(pairs, available), seed=seed)
    if not has_labels(test):
        return test, drawn, order_items(drawn)
    return test, drawn, build_items(test, drawn, sorted(test["label"].unique()), seed=seed)


def _folders(keep: Path, contents: str, drawn: pd.DataFrame, settings: tuple) -> tuple[Path, Path]:
    """Where sounds are kept, which depend on clips, pairs and settings, and captions, which do not.

    Both depend on the code that renders and embeds them.
    """
    code = files.hash_code("audio.py", "data", "models", "slots", "slots/reader.safetensors")
    named = files.hash_json([code, contents, drawn.to_dict("list"), settings])
    return keep / f"sounds-{named[:16]}", keep / f"captions-{code[:16]}"


def views_of(pairs: pd.DataFrame, views: Sequence[str]) -> dict[str, tuple[dict, str]]:
    """A manifest's composites by name, ``<pair_id>/<view>``: what :func:`render` takes of each."""
    return {f"{row['pair_id']}/{view}": (row, view) for row in pairs.to_dict("records") for view in views}
