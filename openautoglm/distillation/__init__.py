"""Losses, augmentation and the one training loop."""
