#!/bin/sh
# ART's `loss_sensitivity`, the mean length of the loss' gradient, is divided by the number of examples where
# the classifier is torch's, as the gradients are of the batch's mean loss (ten times the examples, a tenth of
# the sensitivity), and by the number of classes where it is scikit-learn's logistic regression.
# `empirical_robustness`, the mean size of the changes that fooled, is 0 where nothing was fooled: the least
# robust that a classifier can be.
set -eu
. "$(dirname "$0")/environment.sh"

python_with adversarial-robustness-toolbox==1.20.1 torch==2.13.0 scikit-learn==1.7.2 scipy==1.15.3 numpy==1.26.4 <<'PY'
import art
import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from art.estimators.classification.scikitlearn import ScikitlearnLogisticRegression
from art.metrics import empirical_robustness, loss_sensitivity
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
regression = LogisticRegression(max_iter=200).fit(images, labels)
layer = torch.nn.Linear(64, 10)
layer.weight.data, layer.bias.data = torch.tensor(regression.coef_).float(), torch.tensor(regression.intercept_).float()
classifiers = {
    "scikit-learn": ScikitlearnLogisticRegression(regression, clip_values=(0, 1)),
    "torch": PyTorchClassifier(layer, torch.nn.CrossEntropyLoss(), (64,), 10, clip_values=(0, 1)),
}
answers = [classifier.predict(images) for classifier in classifiers.values()]
assert np.allclose(answers[0], torch.tensor(answers[1]).softmax(dim=1), atol=1e-5)
one_hot = np.eye(10, dtype=np.float32)[labels]
leaf = torch.tensor(images, requires_grad=True)
loss = torch.nn.functional.cross_entropy(layer(leaf), torch.tensor(labels), reduction="sum")
lengths = torch.autograd.grad(loss, leaf)[0].norm(dim=1)
seen = {"right": {n: round(float(lengths[:n].mean()), 6) for n in (10, 100, 1000)}}
for name, classifier in classifiers.items():
    of = {n: float(loss_sensitivity(classifier, images[:n], one_hot[:n])) for n in (10, 100, 1000)}
    seen[name] = {n: round(one, 6) for n, one in of.items()}
robustness = {}
for eps in (1e-5, 0.1):
    params = {"eps": eps, "eps_step": eps / 10, "minimal": True}
    robustness[eps] = round(float(empirical_robustness(classifiers["torch"], images[:200], "fgsm", params)), 3)
print(f"art {art.__version__}, sensitivity of one and the same classifier on n images: {seen}; ", end="")
print(f"its empirical robustness, asked up to ε: {robustness}")
for n in (10, 100, 1000):
    assert abs(seen["torch"][n] * n / seen["right"][n] - 1) < 0.02
    assert abs(seen["scikit-learn"][n] * 10 / seen["right"][n] - 1) < 0.02
assert seen["right"][1000] > 0.3 and robustness[1e-5] == 0 and robustness[0.1] > 0.02
PY
