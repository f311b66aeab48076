"""What the verbs do, and what they write."""
