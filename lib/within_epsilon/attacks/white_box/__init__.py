"""Attacks within a ball that follow the model's gradient."""
