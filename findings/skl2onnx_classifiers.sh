#!/bin/sh
# Of scikit-learn's classifiers, three are others as ONNX files by skl2onnx, without a word: isotonic
# calibration takes the nearest step where scikit-learn interpolates, nearest neighbours that are weighted
# by their distance count alike, as the distances arrive negated and are cut off, and SGD with the modified
# Huber loss answers with the first of the classes whose probability is cut off to the same number.
set -eu
. "$(dirname "$0")/environment.sh"

python_with skl2onnx==1.20.0 scikit-learn==1.9.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)


def exported(model):
    """Labels (n,) and probabilities (n, 10) of the second half of the digits, by the model's ONNX file."""
    file = to_onnx(model, images[:1], options={id(model): {"zipmap": False}})
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images[900:]})


kinds = {
    "isotonic calibration": CalibratedClassifierCV(LinearSVC(random_state=0), method="isotonic", ensemble=False),
    "sigmoid calibration": CalibratedClassifierCV(LinearSVC(random_state=0), method="sigmoid", ensemble=False),
    "neighbours by distance": KNeighborsClassifier(5, weights="distance"),
    "neighbours": KNeighborsClassifier(5),
    "SGD, modified Huber": SGDClassifier(loss="modified_huber", random_state=0),
    "SGD, log loss": SGDClassifier(loss="log_loss", random_state=0),
}
seen, of_file = {}, {}
for name, model in kinds.items():
    model.fit(images[:900], labels[:900])
    answers, of_file[name] = exported(model)
    off = np.abs(of_file[name] - model.predict_proba(images[900:])).max(axis=1)
    right = [round(float((said == labels[900:]).mean()), 3) for said in (model.predict(images[900:]), answers)]
    differ = int((answers != model.predict(images[900:])).sum())
    seen[name] = {"other labels": differ, "off by 0.01": int((off > 0.01).sum()), "at most": round(float(off.max()), 2), "right": right}
print(f"skl2onnx {version('skl2onnx')}, of 897 digits, labels and probabilities in the file that are not scikit-learn's: {seen}")
assert seen["isotonic calibration"]["at most"] > 0.3 and seen["isotonic calibration"]["off by 0.01"] >= 20
assert seen["SGD, modified Huber"]["other labels"] > 50 and seen["SGD, modified Huber"]["at most"] == 0
assert np.allclose(of_file["neighbours by distance"], of_file["neighbours"], atol=1e-5)
assert seen["neighbours by distance"]["off by 0.01"] >= 50
for name in ("sigmoid calibration", "neighbours", "SGD, log loss"):
    assert seen[name]["other labels"] == seen[name]["off by 0.01"] == 0
PY
