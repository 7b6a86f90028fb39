"""The temporal benchmark: items, scores and statistics."""
