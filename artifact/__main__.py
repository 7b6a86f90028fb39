"""The steps of a run without a notebook, and what came out: ``python -m artifact --help``.

``train`` calls what notebooks 02 and 03 call, so that several processes can do it together::

    accelerate launch --num_processes 4 -m artifact train --profile paper --base msclap-2022 --seed 0
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from artifact import compare, paths
from figures import read
from paper import tables


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="python -m artifact", description="A run of the experiment.")
    commands = main.add_subparsers(dest="command", required=True)
    helps = {
        "train": "the base model and the variants of a seed",
        "ablate": "slots in time, one thing changed at a time",
        "hold-out": "a seed's post-pretrainings on composites of some of the classes",
        "summary": "gather the seeds' tables and write summary.json",
        "verify": "compare a run with its reference number by number; as diff, ends with 1 where they differ",
        "report": "print the results, where the files are, and how far the run is from a reference",
    }
    for name, text in helps.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--profile", default="synthetic", help="profile of the run (default: synthetic)")
        command.add_argument("--base", default="compact", help="base model of the run (default: compact)")
        if name in ("train", "ablate", "hold-out"):
            command.add_argument("--seed", type=int, default=0)
        if name in ("report", "verify"):
            command.add_argument("--reference", type=Path, help="a summary.json (default: the committed one)")
            command.add_argument("--tolerance", type=float, default=3.0, help="in points (default: 3)")
        if name == "train":
            command.add_argument("--variants", nargs="*", help="names; without it, all of the profile")
        if name == "ablate":
            command.add_argument("--bases", action="store_true", help="only train the base models it needs")
    return main


def train(options: argparse.Namespace) -> int:
    """Train a seed's base model and variants, or those of the hold-out, or ablate its slots."""
    from artifact.experiment import Experiment
    from artifact.hold_out import hold_out
    from artifact.notebook.setup import set_up
    from artifact.slot_ablation import ablate_slots, base_model_names
    from artifact.training import train_base_models, train_variants

    run = Experiment(options.profile, options.base)
    set_up(run.config.threads)
    if options.command == "train":
        train_base_models(run, options.seed)
        train_variants(run, options.seed, options.variants)
    elif options.command == "hold-out":
        hold_out(run, options.seed)
    elif options.bases:
        train_base_models(run, options.seed, base_model_names(run))
    else:
        ablate_slots(run, options.seed)
    return 0


def summary(options: argparse.Namespace) -> int:
    """Summarise a run whose seeds have been evaluated."""
    from artifact.summary import summarise_run

    summarise_run(options.profile, options.base)
    return 0


def report(options: argparse.Namespace) -> int:
    """Print the results, where everything is, and the comparison with a reference."""
    run, paper = paths.run(options.profile, options.base), paths.paper()
    found = read.summary(run)
    print(tables.text_table(found))
    places = {
        "run": run,
        "figures": paths.figures(),
        "tables": paper / "tables",
        "numbers": paper / "numbers.tex",
    }
    print("\n".join(f"{what:<8} {path}" for what, path in places.items()))
    reference = options.reference or compare.reference_path(options.profile, options.base)
    print(f"\n{compare.against(found, reference, options.tolerance)}")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Print how a run compares with its reference, number by number; 0 if the same or within tolerance."""
    reference = options.reference or compare.reference_path(options.profile, options.base)
    if not reference.is_file():
        raise FileNotFoundError(f"{reference} does not exist: no reference numbers to verify this run by.")
    run = read.summary(paths.run(options.profile, options.base))
    same, text = compare.verify(run, read.summary(reference), options.tolerance)
    print(text, end="")
    return 0 if same else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; one sentence on standard error for what went wrong."""
    options = parser().parse_args(arguments)
    try:
        steps = {"summary": summary, "report": report, "verify": verify}
        return steps.get(options.command, train)(options)
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
