"""The paper's figures, drawn from a run's files."""
