"""One process or many: who does what, what is safe on disk, and how they end together."""
