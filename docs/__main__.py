"""Write the sources of the website: ``python -m docs --profile synthetic --base compact``."""

import argparse
import sys
from collections.abc import Sequence

from artifact import paths
from docs import pages

BUILD = "docs/_build"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sources of the last run's site; the exit code, 2 with a sentence where there is no run."""
    parser = argparse.ArgumentParser(prog="python -m docs", description=__doc__.partition(":")[0])
    parser.add_argument("--profile", default="synthetic", help="profile of the run (default: synthetic)")
    parser.add_argument("--base", default="compact", help="base model of the run (default: compact)")
    options = parser.parse_args(arguments)
    try:
        pages.write(options.profile, options.base, paths.root() / BUILD)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
