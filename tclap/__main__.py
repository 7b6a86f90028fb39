"""``python -m tclap train``: train the models of a prepared run without a notebook.

It calls what notebooks 02 and 03 call, so that several processes can do it together::

    accelerate launch --num_processes 4 -m tclap train --profile paper --base msclap-2022 --seed 0
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tclap.config import VariantParameters


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    defaults = VariantParameters()
    parser = argparse.ArgumentParser(prog="python -m tclap", description="Train the models of a run.")
    train = parser.add_subparsers(required=True).add_parser("train", help="the base model and the variants")
    train.add_argument("--profile", default=defaults.profile)
    train.add_argument("--base", default=defaults.base)
    train.add_argument("--seed", type=int, default=defaults.seed)
    train.add_argument("--variants", nargs="*", help="names; without it, all of the profile")
    parameters = VariantParameters(**vars(parser.parse_args(arguments)))

    from tclap.experiment import Experiment
    from tclap.progress import set_up

    try:
        run = Experiment(parameters.profile, parameters.base)
        set_up(run.config.threads)
        run.train_base(parameters.seed)
        run.train_variants(parameters.seed, parameters.variants)
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
