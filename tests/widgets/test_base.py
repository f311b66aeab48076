"""The part that all explorers share: bundle, state, HTML."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import traitlets

from within_epsilon.widgets.base import FRONTEND, Explorer, bundle, still_picture

KINDS = sorted(
    path.stem
    for path in FRONTEND.glob("*.js")
    if "export async function render" in path.read_text()
    or "export function render" in path.read_text()
)
TOP_LEVEL = re.compile(r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", re.MULTILINE)
TRAP = "</script><!-- <script> & \u2028 \" '"


class Plain(Explorer):
    kind = "epsilon"
    text = traitlets.Unicode(TRAP).tag(sync=True, page=True)
    picture = traitlets.Unicode("data:image/png;base64,AAAA").tag(sync=True, page=True)
    private = traitlets.Unicode("stays in the kernel").tag(sync=True)

    def still(self) -> str:
        return still_picture(self.picture, 'a "b" <c>', carries="picture")

    def summary(self) -> str:
        return "nothing that changes"


class Reader(HTMLParser):
    """Collect tags, attributes and the text of the script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.script = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.script += data


def test_a_kind_has_a_module() -> None:
    assert "epsilon" in KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_bundle_is_one_valid_module(kind: str, tmp_path: Path) -> None:
    source = bundle(kind)
    assert not re.search(r"^import\b", source, re.MULTILINE)
    assert re.findall(r"^export .*", source, re.MULTILINE) == ["export default { render };"]
    names = TOP_LEVEL.findall(source)
    assert len(names) == len(set(names))
    if shutil.which("node"):
        path = tmp_path / "bundle.mjs"
        path.write_text(source)
        subprocess.run(["node", "--check", path], check=True)


def test_state_survives_its_html() -> None:
    text = Plain().to_html()
    reader = Reader(text)
    assert reader.open == []
    assert json.loads(reader.script) == {"text": TRAP}
    assert text.count("AAAA") == 1  # the picture carries its part of the state
    tags = dict(reader.tags)
    assert tags["within-epsilon-explorer"]["kind"] == "epsilon"
    assert tags["img"]["alt"] == 'a "b" <c>'
    assert tags["img"]["data-state"] == "picture"
    assert "id" not in {name for _, attributes in reader.tags for name in attributes}


def test_bundle_of_representations_is_stable() -> None:
    one, two = Plain(), Plain()
    first, _ = one._repr_mimebundle_()
    second, _ = two._repr_mimebundle_()
    widget = "application/vnd.jupyter.widget-view+json"
    assert first.pop(widget)["model_id"] != second.pop(widget)["model_id"]
    assert first == second
    assert first["text/plain"] == "Plain(nothing that changes)"
    assert set(first) == {"text/plain", "text/html"}
