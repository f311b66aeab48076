#!/bin/sh
# ART's verification of tree ensembles certifies scikit-learn's forests wrongly. Of two classes it adds up
# the leaves' shares of both, which are never negative: class 1 is certified at every radius, class 0 at
# none. Of three, it divides a leaf's shares by their l2 norm, where they have to be divided by their sum,
# and verifies another forest. Gradient boosting has other leaves, and is verified as it should be.
set -eu
. "$(dirname "$0")/environment.sh"

python_with adversarial-robustness-toolbox==1.20.1 scikit-learn==1.9.1 numpy==2.4.6 packaging==26.3 <<'PY'
from importlib.metadata import version

import numpy as np
from art.estimators.classification import SklearnClassifier
from art.metrics import RobustnessVerificationTreeModelsCliqueMethod
from sklearn.datasets import load_iris
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier

sepals, labels = load_iris().data[:, :2], load_iris().target
sepals = (sepals - sepals.min(axis=0)) / np.ptp(sepals, axis=0)  # in [0, 1], as is asked for
sides = np.linspace(0, 1, 501)
points = np.stack(np.meshgrid(sides, sides), axis=-1).reshape(-1, 2)


def certified(model, inputs, answers, radius):
    """Which inputs are verified, one by one, up to this l-infinity radius, with cliques of all trees."""
    method = RobustnessVerificationTreeModelsCliqueMethod(SklearnClassifier(model=model), verbose=False)
    shown = np.eye(model.n_classes_)[answers]
    options = {"eps_init": radius, "nb_search_steps": 1, "max_clique": 9, "max_level": 3}
    return np.array([method.verify(one[None], y[None], **options)[1] == 0 for one, y in zip(inputs, shown)])


def beaten(model, inputs, answers, radius):
    """Which inputs have another answer at a point of a grid in [0, 1] that is less than radius away."""
    said = model.predict(points)
    near = (np.abs(points - one).max(axis=1) < 0.999 * radius for one in inputs)
    return np.array([(said[some] != answer).any() for some, answer in zip(near, answers)])


def seen(model, inputs, labels, radius):
    """By class: how many inputs are answered so, how many of them are certified, how many of these beaten."""
    answers = model.fit(inputs, labels).predict(inputs)
    proved, refuted = certified(model, inputs, answers, radius), beaten(model, inputs, answers, radius)
    counts = {}
    for label in model.classes_:
        some = answers == label
        counts[int(label)] = int(some.sum()), int(proved[some].sum()), int((proved & refuted)[some].sum())
    return counts


forest = ExtraTreesClassifier(3, max_depth=2, random_state=0)
boosting = GradientBoostingClassifier(n_estimators=3, learning_rate=0.5, max_depth=2, random_state=0)
two = {name: seen(model, sepals[50:], labels[50:] - 1, 1.0) for name, model in (("forest", forest), ("boosting", boosting))}
three = {name: seen(model, sepals, labels, 0.06) for name, model in (("forest", forest), ("boosting", boosting))}
print(f"ART {version('adversarial-robustness-toolbox')}, by class: answered so, of these certified, of these beaten. ", end="")
print(f"Two classes, radius 1, which is all of [0, 1]: {two}; three, radius 0.06: {three}")
assert two["forest"][0][1] == 0 and two["forest"][1][0] == two["forest"][1][1] == two["forest"][1][2] > 30
assert sum(beaten for _, _, beaten in three["forest"].values()) >= 3
assert two["boosting"][0][1] == two["boosting"][1][1] == 0
assert sum(beaten for _, _, beaten in three["boosting"].values()) == 0
assert sum(proved for _, proved, _ in three["boosting"].values()) > 50
PY
