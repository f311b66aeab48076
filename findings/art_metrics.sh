#!/bin/sh
# ART's loss gradients of scikit-learn's logistic regression are divided by the number of classes, from three
# on, and so is `loss_sensitivity`, the mean length of the gradient. Its `empirical_robustness`, the mean size of the changes
# that fooled, is 0 where nothing was fooled: the least robust that a classifier can be.
set -eu
. "$(dirname "$0")/environment.sh"

python_with adversarial-robustness-toolbox==1.20.1 packaging==26.4 scikit-learn==1.7.2 numpy==2.4.6 <<'PY'
import art
import numpy as np
from art.estimators.classification.scikitlearn import ScikitlearnLogisticRegression
from art.metrics import empirical_robustness, loss_sensitivity
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
seen, robustness = {}, {}
for classes in (2, 5, 10):
    some = labels < classes
    pixels, one_hot = images[some], np.eye(classes, dtype=np.float32)[labels[some]]
    regression = LogisticRegression(max_iter=1000).fit(pixels, labels[some])
    classifier = ScikitlearnLogisticRegression(regression, clip_values=(0, 1))
    weights = regression.coef_ if classes > 2 else np.concatenate([0 * regression.coef_, regression.coef_])
    right = np.linalg.norm((regression.predict_proba(pixels) - one_hot) @ weights, axis=1).mean()
    seen[classes] = round(float(right), 4), round(float(loss_sensitivity(classifier, pixels, one_hot)), 4)
for eps in (1e-5, 0.03, 0.1):
    params = {"eps": eps, "eps_step": eps / 10, "minimal": True}
    found = empirical_robustness(classifier, images[:200], "fgsm", params)
    robustness[eps] = round(float(found), 3)
print(f"art {art.__version__}, mean length of the loss' gradient, right and by ART, by the number of classes: {seen}; ", end="")
print(f"empirical robustness of one classifier, asked up to ε: {robustness}")
for classes, (right, theirs) in seen.items():
    assert abs(right / theirs / (classes if classes > 2 else 1) - 1) < 0.05
assert robustness[1e-5] == 0 and 0.01 < robustness[0.03] < robustness[0.1]
PY
