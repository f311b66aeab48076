"""A report as text, as a Markdown table and as JSON."""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from within_epsilon.threat import Ball


def content(report: Any) -> dict[str, Any]:
    """Return the report as what JSON can hold."""
    parts = asdict(replace(report, ball=None))  # type: ignore[arg-type]
    ball, mask = report.ball, report.ball.mask
    parts["ball"] = {"norm": ball.norm, "epsilon": ball.epsilon}
    if mask is not None:
        packed = zlib.compress(np.packbits(mask.cpu().numpy()).tobytes())
        parts["ball"]["mask"] = [list(mask.shape), base64.b64encode(packed).decode()]
    return parts


def ball_from(norm: Any, epsilon: float, mask: tuple[list[int], str] | None = None) -> Ball:
    """Make the ball that `content` has described."""
    if mask is None:
        return Ball(norm, epsilon)
    shape, text = mask
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    pixels = np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
    return Ball(norm, epsilon, mask=torch.from_numpy(pixels))


def identity_of(report: Any) -> str:
    """Hash all that makes two reports equal."""
    compared = content(report)
    del compared["findings"], compared["seconds"]
    for stage in compared["stages"]:
        del stage["forwards"], stage["gradients"]
    return hashlib.blake2b(json.dumps(compared, sort_keys=True).encode()).hexdigest()[:16]


def as_text(report: Any) -> str:
    """Write a line each about all but the single outcomes."""
    return "\n".join((str(report), *(f"  {name}: {value}" for name, value in _lines(report))))


def as_markdown(report: Any) -> str:
    """Write the same as a Markdown table."""
    pairs = [("report", str(report)), *((name, str(value)) for name, value in _lines(report))]
    rows = [table_row(pair) for pair in pairs]
    return "\n".join((rows[0], "|---|---|", *rows[1:]))


def table_row(cells: Iterable[str]) -> str:
    """Write a row of a Markdown table, in which a bar is no cell's end."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _lines(report: Any) -> Iterator[tuple[str, object]]:
    """Yield what a report says beyond its first line, in pairs of name and value."""
    for stage, left in zip(report.stages, report.standing, strict=True):
        settings = ", ".join(f"{name}={value}" for name, value in stage.settings.items())
        yield (
            f"standing after {stage.name}",
            f"{left} of {report.n}; {stage.attack}({settings}); {stage.forwards:,} forward "
            f"passes, {stage.gradients:,} gradients",
        )
    yield "positions", ", ".join(f"{start} to {end - 1}" for start, end in report.positions)
    for position, reason in report.bad.items():
        yield f"bad example {position}", reason
    for finding in report.findings:
        yield "doubt" if finding.doubtful else "note", finding
    yield "model", report.model
    yield "data", report.data
    if report.key is not None:
        yield "key", report.key
    if report.seed is not None:
        yield "seed", report.seed
    yield "versions", ", ".join(f"{name} {number}" for name, number in report.versions.items())
    yield "time", f"{report.seconds:.1f} s"
    yield "report", report.identity
