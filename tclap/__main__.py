"""``python -m tclap``: train the models of a prepared run without a notebook, or evaluate any model.

``train`` calls what notebooks 02 and 03 call, so that several processes can do it together::

    accelerate launch --num_processes 4 -m tclap train --profile paper --base msclap-2022 --seed 0

``evaluate`` asks a model the temporal benchmark on the test clips of a data set, keeps the rows and
prints a table::

    python -m tclap evaluate --base msclap-2022 --weights CLAP_weights_2022.pth --data esc50

``ablate`` takes the slots of a run's first seed apart (:mod:`tclap.slot_ablation`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tclap import paths
from tclap.config import VariantParameters
from tclap.data.clips import DATASETS, load_clips


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run the command."""
    defaults = VariantParameters()
    parser = argparse.ArgumentParser(prog="python -m tclap", description="Train or evaluate models.")
    commands = parser.add_subparsers(required=True, dest="command")
    train = commands.add_parser("train", help="the base model and the variants")
    train.add_argument("--profile", default=defaults.profile)
    train.add_argument("--base", default=defaults.base)
    train.add_argument("--seed", type=int, default=defaults.seed)
    train.add_argument("--variants", nargs="*", help="names; without it, all of the profile")
    ablate = commands.add_parser("ablate", help="slots in time, one thing changed at a time")
    ablate.add_argument("--profile", default=defaults.profile)
    ablate.add_argument("--base", default=defaults.base)
    ablate.add_argument("--seed", type=int, default=defaults.seed)
    ablate.add_argument("--bases", action="store_true", help="only train the base models that it needs")
    asked = commands.add_parser("evaluate", help="any model, by the temporal benchmark")
    asked.add_argument("--base", default=defaults.base, help="a model's name (default: compact)")
    asked.add_argument("--weights", help="published weights, or a checkpoint of this project")
    asked.add_argument("--data", default="synthetic", choices=list(DATASETS), help="a data set")
    asked.add_argument("--root", help="the data set's folder (default: its own)")
    asked.add_argument("--suite", nargs="+", default=["full"], help="tasks, controls, retrieval or full")
    asked.add_argument("--pairs", type=int, default=400, help="composites (default: 400)")
    asked.add_argument("--control-pairs", type=int, default=200, help="of them for controls (default: 200)")
    asked.add_argument("--seed", type=int, default=0, help="of composites and candidates (default: 0)")
    asked.add_argument("--threads", type=int, default=1, help="of the processor (default: 1)")
    asked.add_argument("--out", type=Path, help="of the rows (default: runs/evaluate/<base>-<data>.parquet)")
    options = vars(parser.parse_args(arguments))
    command = options.pop("command")
    try:
        {"train": _train, "ablate": _ablate, "evaluate": _evaluate}[command](**options)
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        parser.exit(1, f"error: {error}\n")


def _train(**options) -> None:
    parameters = VariantParameters(**options)

    from tclap.experiment import Experiment
    from tclap.progress import set_up

    run = Experiment(parameters.profile, parameters.base)
    set_up(run.config.threads)
    run.train_base(parameters.seed)
    run.train_variants(parameters.seed, parameters.variants)


def _ablate(*, profile, base, seed, bases) -> None:
    from tclap.experiment import Experiment
    from tclap.progress import set_up
    from tclap.slot_ablation import ablate_slots, base_models

    run = Experiment(profile, base)
    set_up(run.config.threads)
    if bases:
        for _ in base_models(run, seed):
            pass
    else:
        ablate_slots(run, seed)


def _evaluate(*, base, weights, data, root, suite, pairs, control_pairs, seed, threads, out) -> None:
    if base == "compact" and weights is None:
        raise ValueError("compact has no published weights, expected --weights of a trained model.")

    from tclap.evaluation.api import evaluate
    from tclap.model_folder import write_table
    from tclap.models.base import load_model
    from tclap.progress import set_up
    from tclap.reporting.rows import rows_table

    set_up(threads)
    model = load_model(base, weights)
    rows = evaluate(
        model, load_clips(data, root), suite, pairs=pairs, control_pairs=control_pairs, seed=seed, name=base
    )
    out = paths.evaluations() / f"{base}-{data}.parquet" if out is None else out
    write_table(out, rows)
    random_weights = bool((model.origin or {}).get("random_weights"))
    sys.stdout.write(rows_table(rows, random_weights=random_weights) + f"rows     {out}\n")


if __name__ == "__main__":
    main()
