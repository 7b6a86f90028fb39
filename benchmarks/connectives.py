"""What captions of AudioCaps and Clotho say about time: ``python -m benchmarks.connectives``.

Reads whichever of the two data sets' official csv files are there, and prints the share of captions with each
connective, a word or phrase that relates what a caption names, with its 95 % interval.

Patterns are tried on the lower-case caption without those uses of a word that say something else
(:data:`FALSE_FRIENDS`: "as well as", "as time goes by"). There is no tagger, so that nothing has to be
downloaded; a pattern has no idea of grammar, and its precision is what reading a sample gives.
"""

import argparse
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from tclap.data.datasets import audiocaps, clotho

DATA_SETS = {"audiocaps": audiocaps, "clotho": clotho}
CONNECTIVES: dict[str, tuple[str, str]] = {
    "before": ("sequence", r"\bbefore\b|\bprior to\b|\bpreced(?:es?|ed|ing)\b"),
    "after": ("sequence", r"\bafter(?:wards?)?\b|\bfollowing\b"),
    "followed by": ("sequence", r"\bfollow(?:ed by|s)\b"),
    "then": ("sequence", r"\bthen\b"),
    "next": ("sequence", r"(?:^|,|\band) next\b(?! to| door)|\bsubsequent(?:ly)?\b"),
    "later": ("sequence", r"\blater\b|\bshortly after\b"),
    "until": ("sequence", r"\b(?:un)?till?\b"),
    "finally": ("sequence", r"\bfinally\b|\beventually\b|\bat the end\b|\blastly\b"),
    "first": ("sequence", r"\b(?:at )?first\b(?! floor| aid)|\binitially\b|\bat the (?:start|beginning)\b"),
    "begins, stops": (
        "sequence",
        r"\b(?:begins|starts|stops|ends|ceases)\b|\b(?:beginning|starting|stopping) to\b",
    ),
    "once": ("sequence", r"\bonce (?:the|an?|it|he|she|they|all)\b"),
    "while": ("simultaneity", r"\bwhil(?:e|st)\b"),
    "as": ("simultaneity", r"\bas\b"),
    "during": ("simultaneity", r"\bduring\b|\bthroughout\b"),
    "at the same time": ("simultaneity", r"\bat the same time\b|\bsimultaneous(?:ly)?\b|\bat once\b"),
    "when": ("simultaneity", r"\bwhen(?:ever)?\b"),
    "meanwhile": ("simultaneity", r"\bmeanwhile\b"),
    "along with": ("simultaneity", r"\b(?:along|together) with\b|\baccompanied by\b"),
    "again and again": (
        "repetition",
        r"\brepeat(?:s|ed|edly|ing)?\b|\bagain and again\b|\bover and over\b|\bone after (?:an|the )other\b"
        r"|\bafter another\b",
    ),
    "and": ("conjunction", r"\band\b"),
    "with": ("conjunction", r"\bwith\b"),
    "comma": ("conjunction", r","),
}
FEW = 10
ANY = {"sequence": "any order word", "simultaneity": "any word of simultaneity"}
NONE = "neither"
FALSE_FRIENDS = re.compile(
    r"\bas (?:well|far|long|soon|though|if)(?: as)?\b|\bas [a-z]+ as\b|\bsuch as\b"
    r"|\bas time\b|\bas (?:a|the) result\b|\bduring (?:the )?(?:day|night)(?:time)?\b"
    r"|\bduring the (?:morning|afternoon|evening|spring|summer|autumn|fall|winter)\b"
    r"|\b(?:a|little|short|long) while\b|\bevery once in a while\b|\bonce in a while\b|\bat once\b"
    r"|\bone after (?:an|the )other\b|\bafter another\b|\bnow and then\b|\bthe ends? of\b|\bboth ends\b"
)
ON_WHOLE = ("again and again", "at the same time")  # which are among the false friends of others


def connectives(captions: Sequence[str]) -> pd.DataFrame:
    """Which connectives each caption has: a boolean column each."""
    lower = pd.Series(list(captions), dtype=str).str.lower()
    plain = lower.str.replace(FALSE_FRIENDS, " ", regex=True)
    found = {}
    for name, (_, pattern) in CONNECTIVES.items():
        text = lower if name in ON_WHOLE else plain
        found[name] = text.str.contains(f"(?:{pattern})", regex=True)
    return pd.DataFrame(found)


def shares(captions: pd.DataFrame) -> pd.DataFrame:
    """Share of the captions that have each connective, any of a group, or nothing about time.

    Args:
        captions: ``data_set, clip_id, caption``.

    Returns:
        ``data_set, connective, group, captions`` (with it), ``total, share, low, high``, in percent. The
        interval is that of a ratio over clips, since a clip's captions are not independent (Cochran, Sampling
        Techniques, 1977, chapter 6); below ten captions with or without, it is Wilson's.
    """
    rows = []
    for data_set, part in captions.groupby("data_set", sort=False):
        found = connectives(part["caption"])
        columns = {name: (group, found[name]) for name, (group, _) in CONNECTIVES.items()}
        for group, name in ANY.items():
            timed = [connective for connective, (of, _) in CONNECTIVES.items() if of == group]
            columns[name] = (group, found[timed].any(axis=1))
        columns[NONE] = ("none", ~np.logical_or(*(columns[name][1] for name in ANY.values())))
        for name, (group, has) in columns.items():
            low, high = _interval(has.to_numpy(), part["clip_id"].to_numpy())
            percent = {"share": 100 * float(has.mean()), "low": 100 * low, "high": 100 * high}
            counts = {"captions": int(has.sum()), "total": len(has)}
            rows.append({"data_set": data_set, "connective": name, "group": group} | counts | percent)
    return pd.DataFrame(rows)


def _interval(has: np.ndarray, clips: np.ndarray) -> tuple[float, float]:
    hits, count = int(has.sum()), len(has)
    if min(hits, count - hits) < FEW:
        return proportion_confint(hits, count, method="wilson")
    # A share is a ratio of sums over clips, which have one caption or five.
    by_clip = pd.DataFrame({"hits": has, "captions": 1}).groupby(clips).sum()
    share = hits / count
    deviations = by_clip["hits"] - share * by_clip["captions"]
    half = norm.ppf(0.975) * np.sqrt((deviations**2).sum()) / count
    return max(share - half, 0.0), min(share + half, 1.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the shares of the data sets that are there, and which are left out."""
    argparse.ArgumentParser(description=__doc__.partition(":")[0]).parse_args(arguments)
    parts = []
    for name, data_set in DATA_SETS.items():
        try:
            parts.append(data_set.read_captions().assign(data_set=name))
        except (FileNotFoundError, ValueError) as error:
            print(f"Left out: {error}")
    if not parts:
        return
    found = shares(pd.concat(parts, ignore_index=True))
    cells = [f"{row.share:.1f} [{row.low:.1f}, {row.high:.1f}]" for row in found.itertuples()]
    heads = found["data_set"] + ", n = " + found["total"].astype(str)
    table = found.assign(cell=cells, data_set=heads)
    table = table.pivot(index=["group", "connective"], columns="data_set", values="cell")
    print("share of the captions that have it in percent, with 95 % interval")
    print(
        table.reindex(pd.MultiIndex.from_frame(found[["group", "connective"]].drop_duplicates())).to_string()
    )
    return 0


if __name__ == "__main__":
    main()
