"""The machinery that evaluations share; a reader begins with `judging`."""
