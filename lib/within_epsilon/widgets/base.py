"""What every explorer shares: state, front end, and how a notebook and a page show it."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets

FRONTEND = Path(__file__).with_name("frontend")

_IMPORT = re.compile(r"^import\s[^;]*?from\s+\"\./([\w/]+)\.js\";\n", re.MULTILINE)
_EXPORT = re.compile(r"^export\s+(?!default)", re.MULTILINE)
_EXPORTED = re.compile(
    r"^export\s+(?:async\s+)?(?:function\*?|const|let|class)\s+(\w+)", re.MULTILINE
)
_FILE = re.compile(r"new URL\(\"\./([\w/]+\.(?:js|wasm))\", import\.meta\.url\)")


def _modules(path: Path, seen: set[Path]) -> Iterator[str]:
    """Yield a front-end module's source after those that it imports, each once."""
    if path in seen:
        return
    seen.add(path)
    source = path.read_text(encoding="utf-8")
    for needed in _IMPORT.findall(source):
        yield from _modules(path.parent / f"{needed}.js", seen)
    source = _EXPORT.sub("", _IMPORT.sub("", source))
    yield _FILE.sub(lambda found: _address(path.parent / found[1]), source)


def _address(path: Path) -> str:
    """Return an expression for the address of a file that travels inside the bundle."""
    if path.suffix == ".wasm":
        data = base64.b64encode(path.read_bytes()).decode()
        return f'"data:application/wasm;base64,{data}"'
    names = ", ".join(_EXPORTED.findall(path.read_text(encoding="utf-8")))
    source = json.dumps("\n".join([*_modules(path, set()), f"export {{ {names} }};\n"]))
    return f'URL.createObjectURL(new Blob([{source}], {{ type: "text/javascript" }}))'


def bundle(kind: str) -> str:
    """Join an explorer's modules into one, as a widget needs it.

    Works because a front-end module imports only its neighbours, by their own names, and no two
    modules share a top-level name. A worker and WebAssembly, which a module finds by
    `new URL("./name", import.meta.url)`, come along as text.

    Parameters
    ----------
    kind : name of the module in `frontend/`, without the ending

    Returns
    -------
    An ES module that exports `{ render }` and imports nothing
    """
    parts = _modules(FRONTEND / f"{kind}.js", set())
    return "\n".join([*parts, "export default { render };\n"])


def state(trait: Any) -> Any:
    """Mark a trait as part of the state that the front end starts from."""
    return trait.tag(sync=True, page=True)


class Explorer(anywidget.AnyWidget):  # type: ignore[misc]
    """Base of all explorers: a subclass names its front end and gives a still picture.

    Traits marked with `state` are plain JSON, sent to the front end by a
    kernel and written into the page for readers without one.
    """

    kind: ClassVar[str]

    @property
    def _esm(self) -> str:
        return bundle(self.kind)

    def still(self) -> str:
        """Return HTML that stands where no script runs: pictures with alternative text."""
        raise NotImplementedError

    def summary(self) -> str:
        """Return what `repr` says in brackets: nothing that changes from run to run."""
        return ""

    def page_state(self) -> dict[str, Any]:
        """Return what the front end starts from, as JSON types."""
        return {name: getattr(self, name) for name in sorted(self.trait_names(page=True))}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.summary()})"

    def to_html(self) -> str:
        """Return the element that the book's page brings to life.

        A still image marked `data-state="name"` also carries that part of the state, once.
        """
        still = self.still()
        carried = set(re.findall(r'data-state="(\w+)"', still))
        state = {key: value for key, value in self.page_state().items() if key not in carried}
        data = json.dumps(state, sort_keys=True, separators=(",", ":"), allow_nan=False)
        # "<" may open or close a script in the middle of a string; "\u003c" is the same JSON.
        data = data.replace("<", "\\u003c")
        return (
            f'<within-epsilon-explorer kind="{self.kind}" style="display:block">\n'
            f'<script type="application/json">{data}</script>\n'
            f"<div>{still}</div>\n"
            "</within-epsilon-explorer>"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return {**data, "text/plain": repr(self), "text/html": self.to_html()}, metadata


class WithStops(Explorer):
    """Base of explorers whose `epsilon` comes to rest at one of some radii.

    Attributes
    ----------
    epsilons : list of float
        The radii; any, if there are none.
    """

    epsilons = state(traitlets.List(traitlets.Float()))

    @traitlets.validate("epsilon")  # type: ignore[untyped-decorator]
    def _to_a_stop(self, proposal: dict[str, float]) -> float:
        stops = self.epsilons or [proposal["value"]]
        return float(min(stops, key=lambda stop: abs(stop - proposal["value"])))


def still_picture(uri: str, alt: str, *, carries: str = "") -> str:
    """Return an <img> whose pixels no theme filters.

    Parameters
    ----------
    uri : PNG as a data URI
    alt : what is seen, in words
    carries : name of the trait that the same picture carries to the front end
    """
    data = f' data-state="{carries}"' if carries else ""
    return (
        f'<img class="dark-light" style="filter:none;max-width:100%;height:auto"{data} '
        f'alt="{html.escape(alt)}" src="{uri}">'
    )
