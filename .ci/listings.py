"""Code in the built pages: where a line is too long for a phone, what is broken off hangs.

A style sheet cannot know how far a line is indented, so each line that may break says it. What
names, punctuation and blanks are wrapped in goes: the listing itself has their colour, and that
makes a page lighter than what is added. The text stays as it was, letter for letter.
"""

import html
import re

SHORT = 30  # characters: as many fit into a listing on the narrowest of phones, 320 px wide
WORD = 24  # characters without a blank, which had better break after a bracket or before a dot
HANG = 2  # characters that a continuation stands further in than its line
LISTING = re.compile(r'(<div class="highlight"><pre>)(.*?)(?=</pre>)', re.DOTALL)
PLAIN = re.compile(r'<span class="[npw]">([^<]*)</span>|<span></span>')
DOT = '<span class="o">.</span>'
# A browser may break a line after any hyphen: a sign would lose its number, an option its name.
SIGN = re.compile(r'<span class="o">-</span>(?:<span class="m[if]">[^<]*</span>|\w)')
TIED = '<span class="tied">{}</span>'
HYPHENED = re.compile(r"<[^>]*>|(?<![\w-])(?:--?[A-Za-z]|\w+-\w)(?:-?\w)*")
# The blank before an option's value, before the sign at a line's end and before an address's @ is
# tied to what follows: no line breaks before a blank, so neither stands on a row of its own.
VALUE = re.compile(
    r'(?<![\w-])(?P<option>--[a-z][\w-]*)(?P<value> (?:<span class="\w+">[^<\s]*</span>|[^<\s])+)'
)
TAIL = re.compile(r' (?:<span class="se">\\</span>|\\)(?=(?:</span>)*$)| @(?= )')
# Nor is the brace of a formatted string parted from the quote before it.
BRACE = re.compile(
    r'<span class="sa">\w+</span><span class="s[12]">(?:&quot;|&#39;|["\'])</span>'
    r'<span class="si">{</span>'
)
OPTION = re.compile(rf'<span class="pre">(?=-[\w-]{{1,{WORD}}}</span>)')


def hang(page: str) -> str:
    """Return a page in whose listings each long line says where its continuation begins.

    Options that the text names stay whole, too.
    """
    return OPTION.sub('<span class="pre option">', LISTING.sub(_listing, page))


def _listing(found: re.Match[str]) -> str:
    lines = PLAIN.sub(r"\1", found[2]).split("\n")
    return found[1] + "\n".join(map(_line, lines))


def _line(line: str) -> str:
    """Wrap a line in its hanging indent, if it is long and has none from an earlier build."""
    text = html.unescape(re.sub(r"<[^>]*>", "", line))
    if len(text) <= SHORT or line.startswith('<span class="hang"'):
        return line
    line = VALUE.sub(_with_value, TAIL.sub(TIED.format(r"\g<0>"), line))
    line = BRACE.sub(TIED.format(r"\g<0>"), line)
    line = SIGN.sub(TIED.format(r"\g<0>"), HYPHENED.sub(_tied, line))
    if max(map(len, text.split())) > WORD:
        line = line.replace("(", "(<wbr>").replace(DOT, f"<wbr>{DOT}")
    indent = len(text) - len(text.lstrip(" ")) + HANG
    return f'<span class="hang" style="--in:{indent}ch">{line}</span>'


def _tied(found: re.Match[str]) -> str:
    """Keep a word on one line, unless it is a tag or long."""
    word = found[0]
    return word if word.startswith("<") or len(word) > WORD else TIED.format(word)


def _with_value(found: re.Match[str]) -> str:
    """Keep an option with its value, unless the two are long; of `<span>0</span>.05` all is one."""
    if len(re.sub(r"<[^>]*>", "", found[0])) > WORD:
        return found[0]
    return found["option"] + TIED.format(found["value"])
