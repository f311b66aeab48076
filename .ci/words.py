"""Prose and tables in the built pages: what belongs together is not parted at a line's end."""

import re

# Text in which nothing breaks, or which no reader sees; formulas are no text yet.
APART = re.compile(
    r"(<(script|style|pre|code|title|head|option)\b.*?</\2>|\\\(.*?\\\)|\\\[.*?\\\]|<[^>]*>)",
    re.DOTALL,
)
NUMBER = r"\d[\d.,]*%?"
# What something is, after its name or formula; a short bracket; an error; how often one was ahead
# and the other; sizes; a chapter. No line breaks before a blank: " = 0" stays with what it follows.
TIED = re.compile(
    r"(?:ℓ[∞012] ε)? = [−-]?\d(?:[\d.,/]*\d)?%?(?!\w)|\([\w.]{1,4} [−+·] [\w.]{1,4}\)"
    rf"|{NUMBER} ± \d[\d.]*%?|(?<![\w.])\d+ : \d+(?![\w.])|(?<![\w.])\d+(?: × \d+)+"
    rf"|[Cc]hapters? \d+"
    # A stroke stays with what is before it: two long numbers are too much for a phone's column.
    rf"|{NUMBER} /(?= \d)"
)


def tie(page: str) -> str:
    """Return a page in which such words stand on one line; the text stays, letter for letter."""
    pieces = APART.split(page)
    # Of every three, the first is text, the second a tag or a formula, the third the tag's name.
    pieces[::3] = (TIED.sub(r'<span class="tied words">\g<0></span>', text) for text in pieces[::3])
    return "".join(piece for i, piece in enumerate(pieces) if i % 3 < 2)
