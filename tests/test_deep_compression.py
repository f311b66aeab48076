"""The Deep Compression format: decode what was encoded, refuse what was not."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from within_epsilon import data
from within_epsilon.deep_compression import BGR_MEAN, decode, fold_normalisation

LAYERS = {"first": torch.Size([4, 3, 3, 3]), "second": torch.Size([5, 4, 1, 1])}


def encode(weights, biases):
    """Encode arrays: of each weight at most 255 different values, none the number 0."""
    counts, blocks = [], []
    for weight, bias in zip(weights, biases, strict=True):
        codebook = np.zeros(256, "<f4")
        values = np.unique(weight[weight != 0])
        codebook[1 : len(values) + 1] = values
        codes, gaps, last = [], [], -1
        for position in np.flatnonzero(weight):
            while position - last > 16:  # farther than 4 bits reach: store a zero on the way
                codes.append(0)
                gaps.append(15)
                last += 16
            codes.append(1 + int(np.searchsorted(values, weight.flat[position])))
            gaps.append(int(position) - last - 1)
            last = int(position)
        padded = np.array([*gaps, 0] if len(gaps) % 2 else gaps, np.uint8)
        counts.append(len(codes))
        blocks += [codebook, bias.astype("<f4"), np.array(codes, np.uint8)]
        blocks.append(padded[0::2] | padded[1::2] << 4)
    header = np.array(counts, "<u4").tobytes()
    return header + b"".join(block.tobytes() for block in blocks)


def example(seed, density):
    rng = np.random.default_rng(seed)
    weights = [
        (rng.integers(-9, 10, shape) * (rng.random(shape) < density)).astype(np.float32)
        for shape in LAYERS.values()
    ]
    return weights, [rng.normal(size=shape[0]).astype(np.float32) for shape in LAYERS.values()]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("density", [0.0, 0.03, 0.3, 1.0])
def test_decoding_undoes_encoding(seed, density):
    weights, biases = example(seed, density)
    state = decode(encode(weights, biases), LAYERS)
    assert list(state) == ["first.weight", "first.bias", "second.weight", "second.bias"]
    for name, weight, bias in zip(LAYERS, weights, biases, strict=True):
        assert np.array_equal(state[f"{name}.weight"].numpy(), weight)
        assert np.array_equal(state[f"{name}.bias"].numpy(), bias)


def test_any_other_length_is_refused():
    content = encode(*example(0, 0.3))
    for wrong in (*(content[:n] for n in range(0, len(content), 97)), content + b"\0"):
        with pytest.raises(ValueError, match="expected"):
            decode(wrong, LAYERS)
    with pytest.raises(ValueError, match="truncated"):
        decode(content[:-1], LAYERS)


def test_damaged_contents_are_refused():
    content = bytearray(encode(*example(0, 1.0)))
    content[-1] = 0xFF  # the last gap: now beyond the layer's end
    with pytest.raises(ValueError, match="second: expected positions below 20"):
        decode(bytes(content), LAYERS)
    weights, biases = example(0, 0.3)
    biases[0][2] = np.nan
    with pytest.raises(ValueError, match="first: expected finite numbers"):
        decode(encode(weights, biases), LAYERS)


def test_noise_is_refused_or_decoded_but_never_crashes():
    rng = np.random.default_rng(0)
    content = encode(*example(0, 0.3))
    for _ in range(200):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] = rng.integers(256)
        try:
            state = decode(bytes(damaged), LAYERS)
        except ValueError:
            continue
        assert all(tensor.isfinite().all() for tensor in state.values())


def test_folding_the_normalisation_is_exact():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 3, 3, generator=generator)
    bias = torch.randn(4, generator=generator)
    images = torch.rand(2, 3, 9, 9, generator=generator)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    trained_on = 255 * images.flip(1) - torch.tensor(BGR_MEAN).reshape(3, 1, 1)
    expected = F.conv2d(trained_on, weight, bias)
    channels = [torch.tensor(values).reshape(3, 1, 1) for values in (mean, std)]
    normalised = (images - channels[0]) / channels[1]
    folded = F.conv2d(normalised, *fold_normalisation(weight, bias, mean, std))
    assert torch.allclose(folded, expected, rtol=1e-5, atol=1e-2)


@pytest.mark.photo
def test_the_real_file_decodes_whole_and_not_in_part():
    from torchvision.models import squeezenet1_0

    layers = {
        name: module.weight.shape
        for name, module in squeezenet1_0().named_modules()
        if isinstance(module, torch.nn.Conv2d)
    }
    content = data.fetch("compressed_SqueezeNet.net").read_bytes()
    state = decode(content, layers)
    weights = [tensor for name, tensor in state.items() if name.endswith("weight")]
    nonzero = sum(int((weight != 0).sum()) for weight in weights)
    assert 0.30 < nonzero / sum(weight.numel() for weight in weights) < 0.35
    assert all(len(weight.unique()) <= 256 for weight in weights)
    with pytest.raises(ValueError, match="truncated"):
        decode(content[:-1], layers)
