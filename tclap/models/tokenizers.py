"""What a reader of captions has to know of a text trunk's tokenizer: where tokens stand, which are words."""

from __future__ import annotations

from collections.abc import Sequence


def token_offsets(
    tokenizer, captions: Sequence[str], longest: int | None = None, suffix: str = ""
) -> list[list[tuple[int, int]]]:
    """Start and end of each token's characters in its caption; special tokens are at ``(0, 0)``.

    ``suffix`` is what the text trunk appends to a caption: special as well.
    """
    texts = [caption + suffix for caption in captions]
    found = tokenizer(texts, truncation=True, max_length=longest, return_offsets_mapping=True)
    return [
        [(start, end) if end <= len(caption) else (0, 0) for start, end in row]
        for caption, row in zip(captions, found["offset_mapping"], strict=True)
    ]


def word_tokens(tokenizer) -> list[str]:
    """Tokens of a tokenizer's vocabulary that begin a word, without the mark that some put before it."""
    vocabulary = list(tokenizer.get_vocab())
    marked = [token[1:] for token in vocabulary if token.startswith("\u0120")]  # byte-level: a space before
    return sorted(marked or (token for token in vocabulary if not token.startswith("##")))
