"""Write the paper's figures, tables and numbers of a run: ``python -m tclap.reporting --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tclap import paths
from tclap.reporting import compare, figures, numbers, read, tables

UNKNOWN, MISSING = 2, 1
"""Exit codes: a name that does not exist, and an artefact that does not or is broken."""

DIFFERENT, NOT_COMPARED = 1, 2
"""Those of ``verify``, as diff has them; 0 is the same, or within tolerance."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="python -m tclap.reporting", description=__doc__)
    commands = main.add_subparsers(dest="command", required=True)
    helps = {
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
    with paths.replacing(path) as temporary:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; one sentence on standard error for what went wrong."""
    options = parser().parse_args(arguments)
    known = {"figure": figures.FIGURES, "table": tables.TABLES}.get(options.command, {})
    unknown = [name for name in getattr(options, "names", ()) if name not in known]
    if unknown:
        sys.stderr.write(f"There is no {options.command} {unknown[0]!r}; there are {', '.join(known)}.\n")
        return UNKNOWN
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
