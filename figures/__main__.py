"""Write figures as PDF, PNG and csv: ``python -m figures tasks windows --run runs/synthetic/compact``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from figures import registry


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figures that are named; the exit code, with one sentence on standard error if it is not 0."""
    parser = argparse.ArgumentParser(prog="python -m figures", description=__doc__.partition(":")[0])
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(registry.FIGURES))
    parser.add_argument("--run", type=Path, default=Path("runs/synthetic/compact"), help="folder of the run")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder to write to")
    options = parser.parse_args(arguments)
    try:
        for name in options.names:
            for path in registry.write(name, options.run, options.out):
                print(path)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
