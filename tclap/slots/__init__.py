"""Order from captions alone: slots in time for a model without a sense of order."""
