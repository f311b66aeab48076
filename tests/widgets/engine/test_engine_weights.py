"""Weights as the page reads them: the right ones, and all that are not."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import node_engine
import pytest
from node_engine import encode

from within_epsilon.data import fetch, shipped
from within_epsilon.widgets.engine import ENGINE

pytestmark = pytest.mark.usefixtures("node")


def described(name: str) -> Any:
    return json.loads((ENGINE / "networks" / f"{name}.json").read_text())


def say(name: str, format_: str, files: list[bytes], good: bytes = b"") -> list[str]:
    """Return what the engine says of files; checked against a good one's facts if it is given."""
    facts = {"size": len(good), "sha256": hashlib.sha256(good).hexdigest()} if good else {}
    files_here = [encode(content) for content in files]
    description = described(name)
    return node_engine.call(
        "read", files=files_here, format=format_, description=description, **facts
    )


def test_length_and_hash_find_any_damage() -> None:
    good = shipped("digits_cnn.safetensors").read_bytes()
    flipped = good[:5000] + bytes([good[5000] ^ 1]) + good[5001:]
    bad = [good[:-1], b"", good + b"\0", flipped]
    first, *said = say("digits_cnn", "safetensors", [good, *bad], good)
    assert first == ""
    assert all(text.startswith("Error: The weights are damaged: ") for text in said)
    assert all(f"{len(good)} bytes expected" in text for text in said[:3])
    assert "SHA-256" in said[3]


def test_without_a_hash_the_structure_is_checked() -> None:
    good = shipped("digits_cnn.safetensors").read_bytes()
    length = struct.unpack("<Q", good[:8])[0]
    header, body = good[8 : 8 + length], good[8 + length :]
    tensors = json.loads(header)

    def rewrite(change: dict[str, Any]) -> bytes:
        text = json.dumps(tensors | change).encode()
        return struct.pack("<Q", len(text)) + text + body

    first = next(name for name in tensors if name.endswith(".weight"))
    at = 8 + length + tensors[first]["data_offsets"][0]
    bad = [
        b"",
        b"\xff" * 40,
        good[:100],
        good[:-1],
        good[:8] + b"[" + good[9:],
        rewrite({first: None}),
        rewrite({first: tensors[first] | {"dtype": "F16"}}),
        rewrite({first: tensors[first] | {"data_offsets": [0, 4]}}),
        good[:at] + struct.pack("<f", float("nan")) + good[at + 4 :],
    ]
    fine, also_fine, *said = say("digits_cnn", "safetensors", [good, rewrite({}), *bad])
    assert fine == also_fine == ""
    assert all(text.startswith("Error: The weights are damaged: ") for text in said), said
    (text,) = say("digits_cnn", "pickle", [good])
    assert text == "Error: There is no reader for weights of format pickle."


@pytest.mark.photo
def test_deep_compression_is_checked_too() -> None:
    good = fetch("compressed_SqueezeNet.net").read_bytes()
    more = struct.pack("<I", struct.unpack("<I", good[:4])[0] + 2)
    nan = 4 * 26 + 4 * 7  # in the first codebook
    gaps = struct.unpack("<I", good[:4])[0] + 4 * (26 + 256 + 96)  # the first layer's
    bad = [
        b"",
        good[:60],
        good[:-1],
        good + b"\0",
        more + good[4:],
        good[:nan] + struct.pack("<f", float("inf")) + good[nan + 4 :],
        good[:gaps] + b"\xff" * 1000 + good[gaps + 1000 :],
    ]
    fine, *said = say("squeezenet1_0", "deep-compression", [good, *bad])
    assert fine == ""
    assert all(text.startswith("Error: The weights are damaged: ") for text in said), said
    (text,) = say("squeezenet1_0", "deep-compression", [good[:-1] + b"\0"], good)
    assert "SHA-256" in text
