"""Read the file format of Deep Compression: sparse weights, drawn from small codebooks."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

CODES = 256

# What the network was trained on: blue, green, red, 0 to 255, minus these.
BGR_MEAN = (104.0, 117.0, 123.0)


def decode(content: bytes, layers: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Decode the weights and biases of a network's layers.

    All numbers are little-endian. The file begins with one uint32 a layer, the number n
    of its stored weights. Then come, layer by layer: a codebook of 256 float32 (entry 0 is
    0); the bias, one float32 per output channel; n bytes, each an index into the
    codebook; and n gaps of 4 bits, low nibble first. The k-th stored weight stands in the
    flattened array at the running sum of (gap + 1), minus 1; all others are 0.

    Parameters
    ----------
    content : bytes
        The whole file.
    layers : mapping from name to shape (out, in, height, width)
        The layers in the file's order.

    Returns
    -------
    dict
        ``{name}.weight`` and ``{name}.bias``, float32.

    Raises
    ------
    ValueError
        If the file is shorter or longer than its header says, or a weight falls outside
        its layer.

    References
    ----------
    S. Han, H. Mao, W. J. Dally, Deep Compression, ICLR 2016, sections 2 and 3.
    """
    data = np.frombuffer(content, np.uint8)
    header = 4 * len(layers)
    if len(data) < header:
        raise ValueError(
            f"content: expected a header of {header} bytes, received {len(data)} in all"
        )
    counts = [int(n) for n in data[:header].view("<u4")]
    sizes = [
        4 * CODES + 4 * shape[0] + n + (n + 1) // 2
        for n, shape in zip(counts, layers.values(), strict=True)
    ]
    if header + sum(sizes) != len(data):
        raise ValueError(
            f"content: expected {header + sum(sizes):,} bytes by its header, received "
            f"{len(data):,}; it is truncated, or of another format or network"
        )
    blocks = np.split(data, np.cumsum([header, *sizes[:-1]]))[1:]
    state: dict[str, Tensor] = {}
    for (name, shape), n, block in zip(layers.items(), counts, blocks, strict=True):
        weight, bias = _decode_layer(name, shape, n, block)
        state[f"{name}.weight"], state[f"{name}.bias"] = weight, bias
    return state


def _decode_layer(name: str, shape: torch.Size, n: int, block: np.ndarray) -> Iterator[Tensor]:
    """Return one layer's weight, of the given shape, and bias."""
    parts = np.cumsum([4 * CODES, 4 * shape[0], n])
    codebook, bias, codes, packed = np.split(block, parts)
    gaps = np.stack([packed & 15, packed >> 4], axis=1).ravel()[:n]
    positions = np.cumsum(gaps.astype(np.int64) + 1) - 1
    weight = np.zeros(shape.numel(), dtype="<f4")
    if n and positions[-1] >= len(weight):
        raise ValueError(
            f"{name}: expected positions below {len(weight)}, received {positions[-1]}"
        )
    weight[positions] = codebook.view("<f4")[codes]
    arrays = weight.reshape(shape), bias.view("<f4")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{name}: expected finite numbers, received others; the file is damaged")
    return (torch.from_numpy(array.astype(np.float32)) for array in arrays)


def fold_normalisation(
    weight: Tensor, bias: Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Make a first convolution that was trained on BGR bytes take normalised RGB.

    For pixels p in [0, 1], the network was trained on 255 p - m, with m the mean bytes;
    torchvision's normalisation gives z = (p - mean) / std. Then 255 p - m equals
    255 std z + (255 mean - m), a factor and a constant per channel, which the weights
    and the bias take up. This is exact where the convolution pads nothing.

    Parameters
    ----------
    weight : Tensor, (out, 3, height, width)
        Its input channels in the order blue, green, red.
    bias : Tensor, (out,)
    mean, std : three floats
        Red, green, blue, as fractions of full intensity.

    Returns
    -------
    tuple of Tensor
        Weight, with its input channels in the order red, green, blue, and bias.
    """
    rgb = weight.double().flip(1)
    shift = 255 * torch.tensor(mean).double() - torch.tensor(BGR_MEAN[::-1]).double()
    bias = bias.double() + torch.einsum("oihw,i->o", rgb, shift)
    rgb = rgb * (255 * torch.tensor(std).double())[:, None, None]
    return rgb.float(), bias.float()
