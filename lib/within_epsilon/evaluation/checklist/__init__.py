"""A checklist for who is about to believe a robust accuracy, and the attacks behind it."""
