"""What does the caption reader need to learn from: how many wordings of time, how many names of events?

The base model of a run with slots, whose reader is trained again on less, on the tasks of the ablation of
slots (five minutes; needs a run of the profile):

    python benchmarks/caption_reader.py [--profile synthetic] [--base compact] [--seed 0]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

import numpy as np

from artifact.experiment import Experiment
from artifact.notebook.setup import set_up
from artifact.order_from_text import train_slots
from artifact.slot_ablation import ABLATION_TASKS, UNCHANGED, Change, answers
from tclap.slots.event_captions import WORDINGS, closed_class, drawn_event
from tclap.slots.model import SlotModel
from tclap.slots.training import any_words, train_reader
from tclap.training.variants import BASE

WORDING_SHARES = {"a half": 2, "an eighth": 8}
EVENT_COUNTS = (20, 200)
EVENTS = 51  # RNG stream id


def changes(run: Experiment, seed: int) -> Iterator[Change]:
    """The model as it is, then with readers that are trained on fewer wordings or names of events."""
    config, base = run.config.slots, run.load(seed)
    slots = train_slots(run, seed)[f"{BASE}-slots"]
    yield Change(UNCHANGED, "", slots, base)

    def retrained(wordings: dict = WORDINGS, event: Callable | None = None) -> SlotModel:
        model = SlotModel(base, config.parts, closed_class=closed_class(wordings))
        options = {"exclude": run.labels, "wordings": wordings, "event": event, "seed": seed}
        train_reader(model, steps=config.steps, pool=config.pool, **options)
        return model

    for share, step in WORDING_SHARES.items():
        fewer = {relation: tuple(dict.fromkeys(known))[::step] for relation, known in WORDINGS.items()}
        yield Change("wordings", share, retrained(fewer), base)
    words = any_words(slots, run.labels)
    for count in EVENT_COUNTS:
        yield Change("event names", str(count), retrained(event=few_events(words, count, seed)), base)


def few_events(words: list[str], count: int, seed: int) -> Callable[[np.random.Generator], str]:
    """Draws one of ``count`` different names of events where a reader's training otherwise draws any."""
    generator, names = np.random.default_rng([seed, EVENTS]), set()
    while len(names) < count:
        names.add(drawn_event(generator, words))
    known = sorted(names)
    return lambda generator: known[generator.integers(count)]


def main() -> int:
    """Print the table, accuracies in percent; 1 with a sentence where the run is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", default="synthetic")
    parser.add_argument("--base", default="compact")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        run = Experiment(options.profile, options.base)
        set_up(run.config.threads)
        rows = answers(run, options.seed, changes(run, options.seed))
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    table = rows.groupby(["group", "change", "task"], sort=False)["correct"].mean().mul(100).unstack()
    print(table[[task for task in ABLATION_TASKS if task in table]].round(1).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
