"""A small part of the campaign of faults: kills, flipped bits, two at once, files cut short."""

import pytest

from benchmarks.fault_trials import disks, flips, killing, kills
from benchmarks.fault_trials.record import workshop


@pytest.fixture(scope="module", autouse=True)
def parent_of_all_forks(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TCLAP_FAULTS", str(tmp_path_factory.mktemp("faults")))
        workshop.cache_clear()
        kills.model(), kills.clips()
        yield


@pytest.mark.parametrize("name", ["training loop", "feature store", "synthesis"])
def test_killed_work_that_is_started_again_gives_the_same_bits_and_leaves_nothing(name):
    for seed in range(3):
        outcome = killing.trial(name, kills.CASES[name], seed)
        assert outcome.ok and outcome.kills, outcome.showed


@pytest.mark.parametrize("kind", [kind for kind in flips.LIBRARY if kind != "rows of tclap evaluate"])
def test_a_flipped_bit_is_noticed_and_its_file_named_or_made_again(kind):
    for n in range(2):
        outcome = flips.library_trial(kind, n)
        assert outcome.ok, outcome.showed


@pytest.mark.parametrize(
    "fault", ["folder that vanishes", "two at once", "clock that jumps", "file cut short"]
)
def test_a_store_outlives_what_happens_to_its_folder(fault):
    outcome = disks.trial(fault, "feature store", 0)
    assert outcome.ok, outcome.showed
