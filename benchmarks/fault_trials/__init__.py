"""What :mod:`benchmarks.faults` tries: kills, disks and folders, flipped bytes, stale results."""
