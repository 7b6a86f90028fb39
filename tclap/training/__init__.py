"""Base training and post-pretraining: one loop, its losses, data and checkpoints."""
