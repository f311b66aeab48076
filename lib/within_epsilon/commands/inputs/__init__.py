"""Networks and pictures, wherever they lie, read without running code."""
