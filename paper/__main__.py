"""Write the paper's tables and the numbers of its text: ``python -m paper --run runs/synthetic/compact``."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from figures import read
from paper import numbers, tables

NOT_MADE = "% The run on real recordings was not made.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write ``tables/table_*.tex`` and ``numbers.tex``; the exit code, 2 with a sentence on an error."""
    parser = argparse.ArgumentParser(prog="python -m paper", description=__doc__.partition(":")[0])
    parser.add_argument("--run", type=Path, default=Path("runs/synthetic/compact"), help="folder of the run")
    parser.add_argument("--out", type=Path, default=numbers.PAPER, help="folder to write to")
    options = parser.parse_args(arguments)
    try:
        summary, real = read.summary(options.run), read.real(options.run)
        shown = {name: real.get("esc50") if name == "real" else summary for name in tables.TABLES}
        texts = {
            f"tables/table_{name}.tex": tables.build(name, of) if of else NOT_MADE
            for name, of in shown.items()
        }
        texts["numbers.tex"] = numbers.numbers_tex(summary, real=real)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, text in texts.items():
        path = options.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)
    missing = re.findall(r"\\setres\{(.*)\}\{--\}", texts["numbers.tex"])
    if missing:
        print(f"not in this run, a dash in the text: {', '.join(missing)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
