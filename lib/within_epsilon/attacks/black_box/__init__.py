"""Attacks that ask the model for scores, for decisions, or for nothing at all."""
