"""What the notebooks show: sounds, items, live curves, tables."""
