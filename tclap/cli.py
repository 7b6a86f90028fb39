"""The command ``tclap``: the temporal benchmark on any model, comparisons, its questions as files.

::

    tclap evaluate --model laion/clap-htsat-fused --data esc50 --root ESC-50-master --out fused.parquet
    tclap evaluate --model my_package.models:load --sample-rate 48000 --window 10 --out mine.parquet
    tclap compare fused.parquet mine.parquet
    tclap evaluate --model laion/clap-htsat-fused --slots --data esc50 --root ESC-50-master
    tclap published --model msclap-2023 compa CompA_order_benchmark.csv CompA_order_files
    tclap items --data esc50 --root ESC-50-master --out questions
    tclap features size
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tclap import __version__, files
from tclap.arguments import at_least
from tclap.data.clips import DATASETS, content_hash, for_stage, load_clips

RANDOM_WEIGHTS = "RANDOM WEIGHTS: THESE NUMBERS MEAN NOTHING"
EMBEDDINGS = "embeddings"  # in the data folder: a folder per model


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run the command; an error is one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="tclap", description="A sense of time for audio-language models.")
    commands = parser.add_subparsers(required=True, dest="command")
    evaluate = commands.add_parser("evaluate", help="any model, by the temporal benchmark")
    _add_model(evaluate)
    _add_data(evaluate)
    evaluate.add_argument("--suite", nargs="+", default=["full"], help="tasks, controls, retrieval or full")
    evaluate.add_argument(
        "--control-pairs", type=int, default=200, help="composites of the controls (default: 200)"
    )
    evaluate.add_argument("--card", type=Path, help="Markdown file for the table, as of a model card")
    evaluate.add_argument("--json", dest="as_json", action="store_true", help="print the table as JSON")
    published = commands.add_parser("published", help="any model, by the items of a published benchmark")
    published.add_argument("format", help="compa, dissecting, audiotime, tacos, moments or trea")
    published.add_argument("file", type=Path, help="the benchmark's csv or JSON file")
    published.add_argument("folder", type=Path, help="its recordings")
    _add_model(published)
    compare = commands.add_parser("compare", help="two models' rows of the same questions")
    compare.add_argument("first", type=Path, help="parquet file of tclap evaluate --out")
    compare.add_argument("second", type=Path, help="another; differences are second minus first")
    items = commands.add_parser("items", help="the benchmark's questions as files, with Croissant metadata")
    _add_data(items)
    items.add_argument("--out", type=Path, required=True, help="the folder to write into")
    features = commands.add_parser("features", help="trunk outputs and embeddings kept between runs")
    features.add_argument("action", choices=("size", "clear"))
    options = vars(parser.parse_args(arguments))
    command = options.pop("command")
    try:
        COMMANDS[command](**options)
    except (ValueError, TypeError, OSError, ModuleNotFoundError, FloatingPointError) as error:
        parser.exit(1, f"error: {error}\n")


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        required=True,
        help="compact, sfx, msclap-2022, msclap-2023, a ClapModel's id on the hub or its folder, "
        "or module:function that gives a model",
    )
    command.add_argument("--weights", help="published weights, or a checkpoint of this project")
    command.add_argument("--sample-rate", type=int, help="in Hz, of module:function's model if it has none")
    command.add_argument("--window", type=float, help="in seconds, likewise")
    command.add_argument("--slots", action="store_true", help="with slots in time around the model")
    command.add_argument("--threads", type=int, default=1, help="of the processor (default: 1)")
    command.add_argument("--out", type=Path, help="parquet file for the rows, one per item")


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", default="synthetic", choices=list(DATASETS), help="a data set")
    command.add_argument("--root", help="the data set's folder (default: its own)")
    command.add_argument("--classes", help="of esc50: all, esc10 or auto (default: auto)")
    command.add_argument("--test-fold", type=int, help="of esc50 (default: the highest)")
    command.add_argument("--pairs", type=int, default=400, help="composites (default: 400)")
    command.add_argument("--seed", type=int, default=0, help="of composites and candidates (default: 0)")


def _clips(data: str, root: str | None, classes: str | None, test_fold: int | None) -> Any:
    chosen = {"classes": classes, "test_fold": test_fold}
    return load_clips(data, root, **{name: value for name, value in chosen.items() if value is not None})


def _evaluate(
    *,
    data: str,
    root: str | None,
    classes: str | None,
    test_fold: int | None,
    suite: list[str],
    pairs: int,
    control_pairs: int,
    seed: int,
    card: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    out = given.pop("out")
    _check_outputs(out, card)
    from tclap.evaluation import report
    from tclap.evaluation.benchmark import evaluate

    name, model, weights = _model(**given)
    clips = _clips(data, root, classes, test_fold)
    made_of = _made_of(out, weights or name, content_hash(for_stage(clips, "test")))
    settings = weights and getattr(model, "base", model).config
    keep = weights and files.data_folder() / EMBEDDINGS / files.hash_json([weights, settings])[:32]
    counts = {"pairs": pairs, "control_pairs": control_pairs, "seed": seed}
    rows = evaluate(model, clips, suite, **counts, name=name, keep=keep, contents=made_of["data"])
    rows.attrs |= made_of  # which pandas keeps in the file
    warning = _warning(model)
    about = {"model": name, "weights": made_of["weights"], "data": f"{data}, {made_of['data']}"}
    about |= {"questions": rows.attrs["items"], "tclap": __version__, "warning": warning}
    if as_json:
        sys.stdout.write(report.as_json(rows, about))
    else:
        _print(f"{report.report(rows)}questions  {rows.attrs['items']}\n", warning)
    _write_rows(out, rows)
    if card is not None:
        with files.replacing(card) as aside:
            aside.write_text(report.card(rows, about), encoding="utf-8")
        sys.stderr.write(f"card       {card}\n")


def _published(*, format: str, file: Path, folder: Path, out: Path | None, **given: Any) -> None:
    _check_outputs(out)
    from tclap.evaluation.formats import FORMATS
    from tclap.evaluation.items import evaluate_items, report_items

    if format not in FORMATS:
        raise ValueError(f"the format is {format!r}, expected one of {', '.join(FORMATS)}.")
    items = FORMATS[format](file, folder)
    name, model, weights = _model(**given)
    made_of = _made_of(out, weights or name, files.sha256_file(file))
    rows = evaluate_items(model, items, name=name)
    rows.attrs |= made_of
    _print(report_items(rows), _warning(model))
    _write_rows(out, rows)


def _made_of(out: Path | None, weights: str, data: str) -> dict:
    """What rows say of weights and data; ValueError where the file ``out`` has rows of others."""
    made_of = {"weights": weights, "data": data}
    if out is not None and out.exists() and not made_of.items() <= (made_of_in(out) or {}).items():
        raise ValueError(f"{out} holds rows of other weights or data, choose another --out or remove it.")
    return made_of


def _warning(model: Any) -> str | None:
    origin = getattr(getattr(model, "base", model), "origin", None)
    return RANDOM_WEIGHTS if (origin or {}).get("random_weights") else None


def _print(text: str, warning: str | None) -> None:
    sys.stdout.write(f"{warning}\n{text}" if warning else text)


def _write_rows(out: Path | None, rows: Any) -> None:
    if out is not None:
        rows.attrs["rows"] = _hash_of(rows)
        files.write_table(out, rows)
        sys.stderr.write(f"rows       {out}\n")


def _read_rows(out: Path) -> Any:
    """Rows that :func:`_write_rows` wrote; ValueError where the file is damaged."""
    import pandas as pd

    try:
        rows = pd.read_parquet(out)
        if rows.attrs.get("rows") == _hash_of(rows):
            return rows
    except Exception as error:  # pandas raises many kinds on damaged bytes
        raise ValueError(f"{out} cannot be read: it is damaged.") from error
    raise ValueError(f"{out} does not match its hash: it is damaged, or of an earlier version.")


def _hash_of(rows: Any) -> str:
    return files.hash_json(rows.to_json(double_precision=15))


def _check_outputs(out: Path | None, *others: Path | None) -> None:
    """Before anything is computed: the rows' file is called .parquet, and folders can be written."""
    if out is not None and out.suffix != ".parquet":
        raise ValueError(f"--out is {out}, expected the name of a .parquet file.")
    for file in (out, *others):
        if file is not None and file.is_dir():
            raise ValueError(f"{file} is a folder, expected the name of a file.")
        if file is not None:
            files.check_writable(file.parent)


def _model(
    *,
    model: str,
    weights: str | None,
    sample_rate: int | None,
    window: float | None,
    slots: bool,
    threads: int,
) -> tuple[str, Any, str | None]:
    """Name, model and fingerprint, by a name that ``load_model`` takes or of what a function returns.

    The fingerprint is of the weights, and says of slots that they are there; None of what has none.
    """
    import torch

    from tclap.models.encoder import Encoder
    from tclap.models.registry import SHIPPED, load_model
    from tclap.models.wrapped import wrap
    from tclap.slots.model import add_slots

    at_least(1, threads=threads)
    torch.set_num_threads(threads)
    module, _, function = model.partition(":")
    if function:
        sys.path.insert(0, "")
        make = getattr(importlib.import_module(module), function, None)
        if not callable(make):
            raise ValueError(f"{module} has no function {function}, expected --model module:function.")
        made = make(weights) if weights else make()
        loaded = made if isinstance(made, Encoder) else wrap(made, sample_rate, window)
    else:
        loaded = load_model(model, weights)
        ours = Path(weights or SHIPPED.get(model) or "").suffix == ".safetensors"
        if not (ours or getattr(loaded, "is_published", True)):
            raise ValueError(f"{model} is not trained, expected --weights of a trained model.")
    fingerprint = getattr(loaded, "fingerprint", None)
    if not slots:
        return model, loaded, fingerprint
    return f"{model} + slots", add_slots(loaded), fingerprint and f"{fingerprint} + slots"


def _compare(*, first: Path, second: Path) -> None:
    from tclap.evaluation.report import difference, difference_report

    rows = []
    for path in (first, second):
        if made_of_in(path) is None:
            raise ValueError(f"{path} holds no rows, expected a file of tclap evaluate --out.")
        rows.append(_read_rows(path))
    compared = difference(*rows)
    if compared.empty:
        raise ValueError(f"{first} and {second} have no task in common.")
    one, other = (
        f"{table['model'].iat[0]} ({path.stem})" for table, path in zip(rows, (first, second), strict=True)
    )
    sys.stdout.write(difference_report(compared, (one, other)))


def _items(
    *,
    data: str,
    root: str | None,
    classes: str | None,
    test_fold: int | None,
    pairs: int,
    seed: int,
    out: Path,
) -> None:
    from tclap.evaluation import item_set
    from tclap.evaluation.benchmark import questions

    _, drawn, asked = questions(_clips(data, root, classes, test_fold), pairs, seed)
    name = " ".join(str(part) for part in (data, classes, test_fold) if part is not None)
    item_set.write(out, drawn, asked, name=name, seed=seed)
    sys.stdout.write(f"{item_set.fingerprint(drawn, asked)}  {len(asked)} questions  {out}\n")


def made_of_in(out: Path) -> dict | None:
    """What the rows of a file were made of; None where it is none of this command's."""
    import pandas as pd

    try:
        return pd.read_parquet(out, columns=[]).attrs or None
    except Exception:  # pandas raises many kinds on what is no parquet file, or a damaged one
        return None


def _features(*, action: str) -> None:
    # Also what writers that were killed have left aside.
    for name, patterns in (
        ("features", ("features-*.safetensors", ".aside-*/*")),
        (EMBEDDINGS, ("*/*/*.safetensors", "*/*/.aside-*/*")),
    ):
        folder = files.data_folder() / name
        paths = [path for pattern in patterns for path in folder.glob(pattern)]
        size = sum(path.stat().st_size for path in paths)
        if action == "clear":
            for path in paths:
                path.unlink(missing_ok=True)
        done = "deleted from" if action == "clear" else "in"
        sys.stdout.write(f"{size / 1e6:.1f} MB in {len(paths)} files {done} {folder}\n")


COMMANDS: dict[str, Callable[..., None]] = {
    "evaluate": _evaluate,
    "published": _published,
    "compare": _compare,
    "items": _items,
    "features": _features,
}
