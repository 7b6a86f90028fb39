"""The steps of a run without a notebook, and what came out: ``python -m artifact --help``.

``train`` calls what notebooks 02 and 03 call, so that several processes can do it together::

    accelerate launch --num_processes 4 -m artifact train --profile paper --base msclap-2022 --seed 0
"""

import argparse
import sys
from collections.abc import Sequence

from artifact import compare, paths
from figures import read
from paper import tables

COMMANDS = {
    "train": "the base model and the variants of a seed",
    "ablate": "slots in time, one thing changed at a time",
    "hold-out": "a seed's post-pretrainings on composites of some of the classes",
    "summary": "gather the seeds' tables and write summary.json",
    "verify": "compare a run with its reference number by number; as diff, ends with 1 where they differ",
    "report": "print the results, where the files are, and how far the run is from the reference",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="python -m artifact", description="A run of the experiment.")
    commands = main.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--profile", default="synthetic", help="profile of the run (default: synthetic)")
        command.add_argument("--base", default="compact", help="base model of the run (default: compact)")
        if name in ("train", "ablate", "hold-out"):
            command.add_argument("--seed", type=int, default=0)
        if name == "train":
            command.add_argument("--variants", nargs="*", help="names; without it, all of the profile")
        if name == "ablate":
            command.add_argument("--bases", action="store_true", help="only train the base models it needs")
    return main


def step(options: argparse.Namespace) -> None:
    """Make what a command other than ``report`` and ``verify`` is for."""
    from artifact.experiment import Experiment
    from artifact.hold_out import hold_out
    from artifact.notebook.setup import set_up
    from artifact.slot_ablation import ablate_slots, base_model_names
    from artifact.summary import summarise_run
    from artifact.training import train_base_models, train_variants

    run = Experiment(options.profile, options.base)
    set_up()
    if options.command == "summary":
        summarise_run(options.profile, options.base)
    elif options.command == "train":
        train_base_models(run, options.seed)
        train_variants(run, options.seed, options.variants)
    elif options.command == "hold-out":
        hold_out(run, options.seed)
    elif options.bases:
        train_base_models(run, options.seed, base_model_names(run))
    else:
        ablate_slots(run, options.seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; one sentence on standard error for what went wrong."""
    options = parser().parse_args(arguments)
    run, reference = (place(options.profile, options.base) for place in (paths.run, compare.reference_path))
    try:
        if options.command == "verify":
            if not reference.is_file():
                raise FileNotFoundError(f"{reference} does not exist: no reference to verify this run by.")
            same, text = compare.verify(read.summary(run), read.summary(reference))
            print(text)
            return 0 if same else 1
        if options.command != "report":
            step(options)
            return 0
        found = read.summary(run)
        print(tables.text_table(found))
        print(
            run, *(paths.root() / name for name in ("figures", "paper/tables", "paper/numbers.tex")), sep="\n"
        )
        print(f"\n{compare.against(found, reference)}")
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
