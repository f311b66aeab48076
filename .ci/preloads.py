"""What a page's first explorer runs on, named in the page's head.

A browser learns that a module is needed only when the one that imports it has come, and asks for
an explorer only once the page has been laid out. Named in the head, all of them come at once,
while the formulas are set.
"""

import re
from pathlib import Path

STATIC_IMPORT = re.compile(r'^(?:import|export)\b[^;"]*"(\.{1,2}/[^"]+)"', re.MULTILINE)
FIRST_EXPLORER = re.compile(r'<within-epsilon-explorer kind="(\w+)"')
ENTRY = re.compile(r'<script[^>]*src="([^"]*explorers/)entry\.js[^"]*"')
EARLIER = re.compile(r'<link rel="modulepreload"[^>]*>')  # by a build that wrote the page before


def closure(module: Path) -> list[Path]:
    """Return a module and all that it imports in turn, each once."""
    found, waiting = [], [module]
    while waiting:
        path = waiting.pop(0).resolve()
        if path not in found:
            found.append(path)
            imports = STATIC_IMPORT.findall(path.read_text(encoding="utf-8"))
            waiting += [path.parent / name for name in imports]
    return found


def name(page: str, explorers: Path) -> str:
    """Return a page that names the modules of its first explorer, if it has any.

    `explorers` is the static folder: an ``entry.js`` that imports all else from one subfolder.
    """
    page = EARLIER.sub("", page)
    kind, entry = FIRST_EXPLORER.search(page), ENTRY.search(page)
    if kind is None or entry is None:
        return page
    start = closure(explorers / "entry.js")
    modules = closure(start[1].with_name(f"{kind[1]}.js"))
    hrefs = [
        entry[1] + path.relative_to(explorers.resolve()).as_posix() for path in start + modules
    ]
    links = "".join(
        f'<link rel="modulepreload" href="{href}">' for href in dict.fromkeys(hrefs[1:])
    )
    return page.replace("</head>", f"{links}</head>", 1)
