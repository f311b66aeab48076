"""The machinery that attacks share; a reader begins with `objective`."""
