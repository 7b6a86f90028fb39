"""One question and one table per script: speed, memory, coverage, captions."""
