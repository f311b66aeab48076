"""The exact least value of a tiny ReLU network, by one linear program per pattern of its ReLUs."""

import itertools

import numpy as np
from scipy.optimize import linprog
from torch import nn


def least_value(model, lower, upper, row):
    """Return the least row · model(x) over lower <= x <= upper; model is an `mlp`."""
    layers = [
        (m.weight.detach().double().numpy(), m.bias.detach().double().numpy())
        for m in model
        if isinstance(m, nn.Linear)
    ]
    hidden = [len(bias) for _, bias in layers[:-1]]
    bounds = list(zip(lower.flatten().tolist(), upper.flatten().tolist(), strict=True))
    best = np.inf
    for pattern in itertools.product([0.0, 1.0], repeat=sum(hidden)):
        signs = np.split(np.array(pattern), np.cumsum(hidden)[:-1])
        slope, height = np.eye(len(bounds)), np.zeros(len(bounds))
        rows, limits = [], []
        for (weight, bias), on in zip(layers[:-1], signs, strict=True):
            slope, height = weight @ slope, weight @ height + bias
            # On: z >= 0; off: z <= 0.
            rows.append(np.where(on, -1.0, 1.0)[:, None] * slope)
            limits.append(np.where(on, height, -height))
            slope, height = on[:, None] * slope, on * height
        weight, bias = row @ layers[-1][0], row @ layers[-1][1]
        found = linprog(weight @ slope, np.concatenate(rows), np.concatenate(limits), bounds=bounds)
        if found.status == 0:
            best = min(best, found.fun + weight @ height + bias)
    return best
