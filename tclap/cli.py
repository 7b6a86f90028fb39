"""The command ``tclap``: evaluate any model by the temporal benchmark, show or clear cached trunk outputs.

::

    tclap evaluate --model msclap-2022 --weights CLAP_weights_2022.pth --data esc50 --root ESC-50-master
    tclap features size
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tclap import files
from tclap.arguments import at_least
from tclap.data.clips import DATASETS, content_hash, for_stage, load_clips


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run the command; an error is one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="tclap", description="A sense of time for audio-language models.")
    commands = parser.add_subparsers(required=True, dest="command")
    evaluate = commands.add_parser("evaluate", help="any model, by the temporal benchmark")
    evaluate.add_argument("--model", required=True, help="a name that load_model takes, such as msclap-2022")
    evaluate.add_argument("--weights", help="published weights, or a checkpoint of this project")
    evaluate.add_argument("--data", default="synthetic", choices=list(DATASETS), help="a data set")
    evaluate.add_argument("--root", help="the data set's folder (default: its own)")
    evaluate.add_argument("--suite", nargs="+", default=["full"], help="tasks, controls, retrieval or full")
    evaluate.add_argument("--pairs", type=int, default=400, help="composites (default: 400)")
    evaluate.add_argument(
        "--control-pairs", type=int, default=200, help="of them for controls (default: 200)"
    )
    evaluate.add_argument("--seed", type=int, default=0, help="of composites and candidates (default: 0)")
    evaluate.add_argument("--threads", type=int, default=1, help="of the processor (default: 1)")
    evaluate.add_argument("--out", type=Path, help="parquet file for the rows, one per item")
    features = commands.add_parser("features", help="the trunk outputs kept between runs")
    features.add_argument("action", choices=("size", "clear"))
    options = vars(parser.parse_args(arguments))
    command = options.pop("command")
    try:
        {"evaluate": _evaluate, "features": _features}[command](**options)
    except (ValueError, TypeError, OSError, ModuleNotFoundError, FloatingPointError) as error:
        parser.exit(1, f"error: {error}\n")


def _evaluate(*, model, weights, data, root, suite, pairs, control_pairs, seed, threads, out) -> None:
    if out is not None:
        if out.suffix != ".parquet" or out.is_dir():
            raise ValueError(f"--out is {out}, expected the name of a .parquet file.")
        files.check_writable(out.parent)

    import torch

    from tclap.evaluation.benchmark import evaluate, report
    from tclap.models.registry import load_model

    at_least(1, threads=threads)
    torch.set_num_threads(threads)
    loaded = load_model(model, weights)
    if not loaded.is_published and Path(weights or "").suffix != ".safetensors":
        raise ValueError(f"{model} is not trained, expected --weights of a trained model.")
    clips = load_clips(data, root)
    if out is not None:
        made_of = {"weights": loaded.fingerprint, "data": content_hash(for_stage(clips, "test"))}
        if out.exists() and made_of_in(out) != made_of:
            raise ValueError(f"{out} holds rows of other weights or data, choose another --out or remove it.")
    rows = evaluate(loaded, clips, suite, pairs=pairs, control_pairs=control_pairs, seed=seed, name=model)
    random_weights = bool((loaded.origin or {}).get("random_weights"))
    sys.stdout.write(report(rows, random_weights=random_weights))
    if out is not None:
        rows.attrs = made_of  # which pandas keeps in the file
        files.write_table(out, rows)
        sys.stdout.write(f"rows     {out}\n")


def made_of_in(out: Path) -> dict | None:
    """What the rows of a file were made of; None where it is none of this command's."""
    import pandas as pd

    try:
        return pd.read_parquet(out, columns=[]).attrs
    except (OSError, ValueError):
        return None


def _features(*, action) -> None:
    from tclap.training.features import report

    sys.stdout.write(report(clear=action == "clear"))


if __name__ == "__main__":
    main()
