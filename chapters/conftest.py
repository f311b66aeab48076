"""How nbval runs the chapters: whole, or not and with the reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

from within_epsilon.data import available

os.environ["TQDM_DISABLE"] = "1"
# Kernels run side by side; their threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Compare text, not markup, which is checked in a browser."""
    if isinstance(collector, IPyNbFile):
        collector.skip_compare += ("text/html", "application/json")


def missing_data(path: Path) -> list[str]:
    """Return what a notebook says it needs and cannot be had."""
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    needs = metadata.get("within_epsilon", {}).get("needs", [])
    return [name for name in needs if not available(name)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip a chapter whose data is out of reach; under CI let it fail."""
    reasons: dict[Path, list[str]] = {}
    for item in items:
        if isinstance(item, IPyNbCell) and not os.environ.get("CI"):
            missing = reasons.setdefault(
                item.path, missing_data(item.path)
            )
            if missing:
                names = ", ".join(missing)
                reason = f"skipped, because it needs {names}"
                item.add_marker(pytest.mark.skip(reason=reason))
