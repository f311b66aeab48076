"""Data: splits that never change, files that are what they claim, photos of every kind."""

import hashlib
import io
import os
import struct
import subprocess
import sys
import zlib
from urllib.error import URLError

import numpy as np
import pytest
import requests
import torch
from PIL import Image

from within_epsilon import data
from within_epsilon.data import digit_sets, files
from within_epsilon.data.files import RemoteFile


def test_nothing_is_fetched_or_loaded_on_import():
    code = """
import sys

def refuse(event, _):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(event)

sys.addaudithook(refuse)
import within_epsilon.data, within_epsilon.models
print([name for name in ("torchvision", "sklearn", "skimage", "requests") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


# Digits


def test_digits_splits_are_fixed_disjoint_and_balanced():
    splits = data.digits()
    assert [len(split) for split in splits] == [1197, 200, 400]
    seen = set()
    for split in splits:
        assert split.images.shape[1:] == (1, 8, 8)
        assert (split.images.dtype, split.labels.dtype) == (torch.float32, torch.int64)
        assert (split.images.min(), split.images.max()) == (0, 1)
        shares = split.labels.bincount() / len(split)
        assert shares.min() > 0.085
        assert shares.max() < 0.115
        rows = {image.numpy().tobytes() for image in split.images}
        assert len(rows) == len(split)
        assert not rows & seen, "an image is in two splits"
        seen |= rows
    sixteenths = [(split.images * 16).to(torch.uint8).numpy().tobytes() for split in splits]
    labels = [split.labels.to(torch.uint8).numpy().tobytes() for split in splits]
    pinned = hashlib.sha256(b"".join(sixteenths + labels)).hexdigest()
    assert pinned == "55ebb03358ec280a96d330e09c06f47afb571af9ec1f3268539133a4430835c7"


def test_digits_are_read_without_importing_scikit_learn(monkeypatch):
    """Which takes a hundred times as long; where its file lies elsewhere, it is asked for them."""
    code = "import sys, within_epsilon.data as d; d.digits(); print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr
    direct = data.digits()
    monkeypatch.setattr(digit_sets, "find_spec", lambda name: None)
    for split, other in zip(direct, data.digits(), strict=True):
        assert torch.equal(split.images, other.images)
        assert torch.equal(split.labels, other.labels)


def test_split_is_a_data_set_and_checks_itself():
    split = data.Split(torch.arange(24.0).reshape(6, 1, 2, 2) / 24, torch.arange(6))
    images, labels = split[2:4]
    assert (images.shape, labels.tolist()) == ((2, 1, 2, 2), [2, 3])
    batches = list(torch.utils.data.DataLoader(split, batch_size=4))
    assert torch.equal(torch.cat([images for images, _ in batches]), split.images)
    assert repr(split) == "Split(6 images of shape (1, 2, 2))"
    with pytest.raises(ValueError, match=r"\(6, 1, 2, 2\) and \(5,\)"):
        data.Split(split.images, split.labels[:5])


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


def test_mnist_reads_its_format_and_keeps_a_twelfth_for_validation(tmp_path, monkeypatch):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, 30, dtype=np.uint8)
    for name, part in (("train", slice(0, 24)), ("t10k", slice(24, 30))):
        write_idx(folder / f"{name}-images-idx3-ubyte", images[part])
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels[part])
    monkeypatch.setenv("WITHIN_EPSILON_DATA", str(tmp_path))
    for splits in (data.mnist(tmp_path), data.mnist()):
        assert [len(split) for split in splits] == [22, 2, 6]
        stacked = torch.cat([split.images for split in splits])
        assert stacked.dtype == torch.float32
        assert torch.equal((stacked * 255).round(), torch.tensor(images)[:, None].float())
        assert torch.cat([split.labels for split in splits]).tolist() == labels.tolist()


def test_mnist_out_of_reach_says_where_to_put_it(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)
    # torchvision's own words before it passed on the cause, in 0.20.
    with pytest.raises(data.DataUnavailableError, match=r"no network|Error downloading") as caught:
        data.mnist(tmp_path)
    assert str(tmp_path / "MNIST" / "raw") in str(caught.value)


# Fetched files

CONTENT = b"a file worth fetching"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, not made yet, and a registry of one file, "thing"."""
    entry = RemoteFile(
        what="a thing",
        repository="owner/project",
        commit="c0ffee",
        path="folder/thing",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size=len(CONTENT),
        licence="CC0",
    )
    monkeypatch.setattr(files, "registry", lambda: {"thing": entry})
    folder = tmp_path / "cache"
    monkeypatch.setenv("WITHIN_EPSILON_DATA", str(folder))
    return folder


@pytest.fixture
def server(monkeypatch):
    """A list of requested addresses; what is served is the attribute `content`."""

    class Server(list):
        content: bytes | Exception = requests.ConnectionError("no network")

        def __call__(self, url, output, _pooch):
            self.append(url)
            if isinstance(self.content, Exception):
                raise self.content
            with open(output, "wb") as file:  # noqa: PTH123 - a path or an open file's name
                file.write(self.content)

    server = Server()
    monkeypatch.setattr("pooch.HTTPDownloader", lambda **_: server)
    return server


def snapshot(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_fetch_downloads_once_from_the_commit(cache, server):
    server.content = requests.ConnectionError("no route")
    assert not data.available("thing")
    server.clear()
    server.content = CONTENT
    path = data.fetch("thing")
    assert path == cache / "thing"
    assert path.read_bytes() == CONTENT
    assert data.available("thing")
    assert data.fetch("thing") == path
    assert server == ["https://raw.githubusercontent.com/owner/project/c0ffee/folder/thing"]
    assert list(snapshot(cache)) == ["thing"]


@pytest.mark.parametrize("content", [b"", b"a file worth forging.", requests.Timeout("too long")])
def test_failed_downloads_leave_no_trace(cache, server, content):
    server.content = content
    with pytest.raises(data.DataUnavailableError) as caught:
        data.fetch("thing")
    assert not cache.exists()
    message = str(caught.value)
    for part in (str(cache / "thing"), server[0], f"{len(CONTENT)} bytes", "digits()"):
        assert part in message
    assert type(caught.value.__cause__).__name__ in message


@pytest.mark.parametrize("found", [CONTENT[:-1], CONTENT[::-1], b""])
def test_a_wrong_file_in_the_cache_is_reported_and_left_alone(cache, server, found):
    server.content = CONTENT
    cache.mkdir()
    (cache / "thing").write_bytes(found)
    before = snapshot(cache)
    assert not data.available("thing")
    with pytest.raises(data.DataUnavailableError, match="Delete or move it"):
        data.fetch("thing")
    assert snapshot(cache) == before
    assert not server


def test_a_read_only_cache_will_do(cache, server):
    cache.mkdir()
    (cache / "thing").write_bytes(CONTENT)
    before = snapshot(cache), cache.stat().st_mtime_ns
    cache.chmod(0o555)
    assert data.fetch("thing").read_bytes() == CONTENT
    assert (snapshot(cache), cache.stat().st_mtime_ns) == before
    assert not server


def test_a_cache_that_cannot_be_made_is_reported(tmp_path, cache, server, monkeypatch):
    server.content = CONTENT
    (tmp_path / "file").touch()
    monkeypatch.setenv("WITHIN_EPSILON_DATA", str(tmp_path / "file" / "cache"))
    with pytest.raises(data.DataUnavailableError, match="Remedy"):
        data.fetch("thing")


def test_where_the_cache_is(monkeypatch):
    monkeypatch.setenv("WITHIN_EPSILON_DATA", "some/folder")
    with pytest.raises(ValueError, match=r"absolute path, received 'some/folder'"):
        data.available("pig.jpg")
    monkeypatch.setenv("WITHIN_EPSILON_DATA", "")
    assert files.cache_folder().is_absolute()
    monkeypatch.delenv("WITHIN_EPSILON_DATA")
    assert files.cache_folder().name == "within-epsilon"


def test_the_registry_names_commits_hashes_and_licences():
    assert set(files.registry()) == {"compressed_SqueezeNet.net", "pig.jpg"}
    for entry in files.registry().values():
        assert (len(entry.commit), len(entry.sha256)) == (40, 64)
        assert entry.url.endswith(f"/{entry.commit}/{entry.path}")
        assert entry.size > 0
        assert entry.licence
    with pytest.raises(ValueError, match=r"'pig' in|'pig'; did you mean pig.jpg"):
        data.fetch("pig")


def test_shipped_files_are_found_or_missed_by_name():
    assert data.shipped("digits_cnn.safetensors").stat().st_size > 10_000
    with pytest.raises(data.DataUnavailableError, match="reinstall"):
        data.shipped("no_such_file")


# Photos

Y, X = np.mgrid[:224, :224].astype(np.uint8)
RGB = np.stack([X, Y, 3 * X + 5 * Y], axis=2)
ALPHA = (X + Y // 8).astype(np.uint8)
WIDE = (X.astype(np.uint16) * 256 + Y).astype(np.uint16)
GREY = np.stack([X] * 3, axis=2)


def encode(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def bytes_of(picture):
    pixels = data.photo(picture)
    assert (pixels.shape, pixels.dtype) == ((1, 3, 224, 224), torch.float32)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    return (pixels[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def png(width, height, depth, colour, rows=b""):
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def on_white(colours, alpha):
    alpha = alpha[..., None] / 255
    return colours * alpha + 255 * (1 - alpha)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


PALETTE = Image.fromarray(RGB).quantize(64)
LAYERS = np.dstack([X, Y, ALPHA, np.full_like(X, 40)])
KINDS = {
    "RGB": (encode(Image.fromarray(RGB)), RGB),
    "BMP": (encode(Image.fromarray(RGB), "BMP"), RGB),
    "lossless WebP": (encode(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
    "TIFF, LZW": (encode(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"), RGB),
    "GIF": (encode(PALETTE, "GIF"), np.asarray(PALETTE.convert("RGB"))),
    "palette": (encode(PALETTE), np.asarray(PALETTE.convert("RGB"))),
    "transparent palette": (
        encode(PALETTE, transparency=7),
        np.where(
            np.asarray(PALETTE)[..., None] == 7, np.uint8(255), np.asarray(PALETTE.convert("RGB"))
        ),
    ),
    "RGB and alpha": (encode(Image.fromarray(np.dstack([RGB, ALPHA]))), on_white(RGB, ALPHA)),
    "grey and alpha": (
        encode(Image.merge("LA", [Image.fromarray(X), Image.fromarray(ALPHA)])),
        on_white(GREY, ALPHA),
    ),
    "grey": (encode(Image.fromarray(X)), GREY),
    "one bit": (
        encode(Image.fromarray(X > 99)),
        np.where(GREY > 99, np.uint8(255), np.uint8(0)),
    ),
    "16-bit grey": (encode(Image.fromarray(WIDE)), np.dstack([WIDE / 257] * 3)),
    "16-bit big-endian TIFF": (
        encode(Image.fromarray(WIDE.astype(">u2")), "TIFF"),
        np.dstack([WIDE / 257] * 3),
    ),
    "16-bit RGB": (
        png(
            224,
            224,
            16,
            2,
            b"".join(b"\0" + row.astype(">u2").tobytes() for row in RGB.astype(int) * 257),
        ),
        RGB,
    ),
    "CMYK": (
        encode(Image.fromarray(LAYERS, mode="CMYK"), "TIFF"),
        (255.0 - LAYERS[..., :3]) * (255 - LAYERS[..., 3:]) / 255,
    ),
    "CMYK JPEG": (
        encode(Image.new("CMYK", (224, 224), (200, 30, 90, 20)), "JPEG", quality=100),
        np.broadcast_to(np.array([55, 225, 165]) * (235 / 255), (224, 224, 3)),
    ),
    "turned by EXIF": (encode(Image.fromarray(RGB), exif=exif(6)), np.rot90(RGB, -1)),
    "mirrored by EXIF": (encode(Image.fromarray(RGB), exif=exif(2)), RGB[:, ::-1]),
}
EXACT = ("alpha", "CMYK", "16-bit")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_gives_its_pixels(kind):
    picture, expected = KINDS[kind]
    tolerance = 1 if any(word in kind for word in EXACT) else 0
    assert np.abs(bytes_of(picture) - expected.astype(float)).max() <= tolerance


def test_sources_are_interchangeable(tmp_path):
    content = encode(Image.fromarray(RGB))
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with path.open("rb") as file:
        for source in (path, str(path), content, file, Image.open(path)):
            assert np.array_equal(bytes_of(source), RGB)


@pytest.mark.parametrize("shape", [(300, 451), (451, 300), (100, 37), (224, 225)])
def test_resizing_and_cropping_are_torchvisions(shape):
    from torchvision.models import SqueezeNet1_0_Weights

    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    transforms = SqueezeNet1_0_Weights.IMAGENET1K_V1.transforms(resize_size=224)
    mean, std = (torch.tensor(t).reshape(3, 1, 1) for t in (transforms.mean, transforms.std))
    expected = transforms(image) * std + mean
    assert torch.allclose(data.photo(image)[0], expected, atol=1e-6)


def test_bundled_photos_are_scikit_images():
    import skimage.data

    for name in ("chelsea", "coffee"):
        array = getattr(skimage.data, name)()
        assert torch.equal(data.photo(name), data.photo(Image.fromarray(array)))


def test_bundled_photos_without_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(ImportError, match="pip install scikit-image"):
        data.photo("chelsea")


@pytest.mark.photo
def test_the_pig_is_fetched():
    assert data.photo("pig").shape == (1, 3, 224, 224)
    assert data.photo("pig", size=400).shape == (1, 3, 400, 400)


NOISE = encode(Image.effect_noise((224, 224), 50))
REFUSED = {
    "empty": (b"", "0 bytes"),
    "no picture": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "something else"),
    "truncated PNG": (NOISE[: len(NOISE) // 2], "damaged"),
    "truncated JPEG": (encode(Image.fromarray(RGB), "JPEG")[:2000], "damaged"),
    "bomb": (png(30_000, 30_000, 8, 2), "too large"),
    "large, short of a bomb": (png(10_000, 10_000, 8, 2), "too large"),
    "thread": (encode(Image.new("RGB", (3, 1000))), "crop it first"),
    "floats": (encode(Image.fromarray(WIDE.astype(np.float32)), "TIFF"), "neither 8 nor 16 bits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_decent_picture_is_refused(case, tmp_path):
    content, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        data.photo(content)
    path = tmp_path / "picture"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        data.photo(path)
    assert str(path) in str(caught.value)


def test_other_wrong_sources_are_refused(tmp_path):
    with pytest.raises(ValueError, match="folder"):
        data.photo(tmp_path)
    with pytest.raises(FileNotFoundError, match="did you mean 'chelsea'"):
        data.photo("chelsey")
    with pytest.raises(FileNotFoundError, match="bundled are chelsea, coffee, pig"):
        data.photo(tmp_path / "holiday.jpg")
    with pytest.raises(TypeError, match="mode 'rb'"):
        data.photo(io.StringIO("text"))
    with pytest.raises(TypeError, match="received int"):
        data.photo(3)
    assert os.listdir(tmp_path) == []  # noqa: PTH208
