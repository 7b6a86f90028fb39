"""Clips, composites, captions and the batches made of them."""
