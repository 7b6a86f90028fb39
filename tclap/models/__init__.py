"""Audio-text models, and the names of their audio heads' readouts: here, so that reading a profile does not
have to wait for torch."""

READOUTS = (
    "mean",
    "mean-max",
    "segments",
    "segment-peaks",
    "attention",
    "ends",
)  # of a model that is trained here
PUBLISHED_READOUTS = ("published", "residual-segments")
