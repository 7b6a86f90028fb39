"""The paper's tables and numbers, from a run's files."""
