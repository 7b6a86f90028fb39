"""The steps of a run without a notebook, and its figures, tables and numbers: ``python -m artifact --help``.

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
from figures import registry as figures
from paper import numbers, tables
from tclap import files

UNKNOWN, MISSING = 2, 1
"""Exit codes: a name that does not exist, and an artefact that does not or is broken."""

DIFFERENT, NOT_COMPARED = 1, 2
"""Those of ``verify``, as diff has them; 0 is the same, or within tolerance."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="python -m artifact", description="A run of the experiment.")
    commands = main.add_subparsers(dest="command", required=True)
    helps = {
        "train": "the base model and the variants of a seed",
        "ablate": "slots in time, one thing changed at a time",
        "figure": f"write figures as PDF, PNG and csv: {', '.join(figures.FIGURES)}",
        "table": f"write tables as LaTeX: {', '.join(tables.TABLES)}",
        "numbers": "write numbers.tex, the macros of the paper's text",
        "verify": "compare a run with its reference number by number; ends with 1 where they differ",
        "report": "print the results, where the files lie, and how far the run is from a reference",
    }
    for name, text in helps.items():
        command = commands.add_parser(name, help=text)
        if name in ("figure", "table"):
            command.add_argument("names", nargs="+", metavar="NAME", help="what to write")
        command.add_argument("--profile", default="synthetic", help="profile of the run (default: synthetic)")
        command.add_argument("--base", default="compact", help="base model of the run (default: compact)")
        if name in ("train", "ablate"):
            command.add_argument("--seed", type=int, default=0)
        if name == "train":
            command.add_argument("--variants", nargs="*", help="names; without it, all of the profile")
        if name == "ablate":
            command.add_argument("--bases", action="store_true", help="only train the base models it needs")
        if name in ("report", "verify"):
            command.add_argument(
                "--reference",
                type=Path,
                help="summary.json to compare with (of verify: default the committed one)",
            )
            command.add_argument(
                "--tolerance", type=float, default=3.0, help="percentage points (default: 3)"
            )
    return main


def write(path: Path, text: str) -> Path:
    """Replace ``path`` by ``text`` in one step."""
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def overview(run: Path, reference: Path | None, tolerance: float) -> str:
    """The results as text, where everything lies, and the comparison with a reference if there is one."""
    summary = read.summary(run)
    parts = [
        tables.text_table(summary),
        f"run      {run}\nfigures  {paths.figures()}\ntables   {paths.paper() / 'tables'}\n"
        f"numbers  {paths.paper() / 'numbers.tex'}\n",
    ]
    if reference is not None:
        parts.append(compare.against(summary, reference, tolerance) + "\n")
    return "\n".join(parts)


def verified(run: Path, reference: Path, tolerance: float) -> int:
    """Print how a run compares with its reference, number by number, and return the exit code."""
    if not reference.is_file():
        sys.stderr.write(
            f"{reference} does not exist: there are no reference numbers to verify this run by.\n"
        )
        return NOT_COMPARED
    try:
        same, text = compare.verify(read.summary(run), read.summary(reference), tolerance)
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return NOT_COMPARED
    sys.stdout.write(text)
    return 0 if same else DIFFERENT


def train(options: argparse.Namespace) -> None:
    """Train a seed's base model and variants."""
    from artifact.experiment import Experiment
    from artifact.notebook.setup import set_up
    from artifact.training import train_base_models, train_variants

    run = Experiment(options.profile, options.base)
    set_up(run.config.threads)
    train_base_models(run, options.seed)
    train_variants(run, options.seed, options.variants)


def ablate(options: argparse.Namespace) -> None:
    """Ablate the slots of a seed."""
    from artifact.experiment import Experiment
    from artifact.notebook.setup import set_up
    from artifact.slot_ablation import ablate_slots, base_models

    run = Experiment(options.profile, options.base)
    set_up(run.config.threads)
    if options.bases:
        for _ in base_models(run, options.seed):
            pass
    else:
        ablate_slots(run, options.seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; one sentence on standard error for what went wrong."""
    options = parser().parse_args(arguments)
    known = {"figure": figures.FIGURES, "table": tables.TABLES}.get(options.command, {})
    unknown = [name for name in getattr(options, "names", ()) if name not in known]
    if unknown:
        sys.stderr.write(f"There is no {options.command} {unknown[0]!r}; there are {', '.join(known)}.\n")
        return UNKNOWN
    if options.command in ("train", "ablate"):
        try:
            {"train": train, "ablate": ablate}[options.command](options)
        except (ValueError, TypeError, OSError, FloatingPointError) as error:
            sys.stderr.write(f"error: {error}\n")
            return MISSING
        return 0
    run = paths.run(options.profile, options.base)
    if options.command == "verify":
        reference = options.reference or compare.reference_path(options.profile, options.base)
        return verified(run, reference, options.tolerance)
    try:
        if options.command == "report":
            sys.stdout.write(overview(run, options.reference, options.tolerance))
            return 0
        written = []
        if options.command == "figure":
            for name in options.names:
                written += figures.write(name, run)
        elif options.command == "table":
            summary, draft = read.summary(run), read.draft()
            for name in options.names:
                text = tables.build(name, summary, draft)
                written.append(write(paths.paper() / "tables" / f"table_{name}.tex", text))
        else:
            written.append(write(paths.paper() / "numbers.tex", numbers.numbers_tex(read.summary(run))))
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return MISSING
    sys.stdout.write("".join(f"{path}\n" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
