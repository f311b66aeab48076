"""Chapter 9's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from within_epsilon.attacks import fgsm, input_gradient, pgd
from within_epsilon.exercises import verdict
from within_epsilon.losses import cross_entropy, margin
from within_epsilon.runtime import example_generators


@torch.no_grad()
def _worse(model, labels, first, second, *, by="both"):
    scores = []
    for images in (first, second):
        logits = model(images)
        loss, fooled = cross_entropy(logits, labels), (logits.argmax(dim=1) != labels).float()
        weights = {"both": (1.0, 1e6), "loss": (1.0, 0.0), "fooled": (0.0, 1.0)}[by]
        scores.append(weights[0] * loss + weights[1] * fooled)
    return torch.where((scores[1] > scores[0]).view(-1, 1, 1, 1), second, first)


def _planted(bugs):
    """Return PGD with some of the five bugs."""

    def attack(model, images, labels, ball, *, steps=40, step_size=None, targeted=False, seed=0):
        if step_size is None:
            step_size = 2.5 * ball.epsilon / steps
        if targeted and "target" not in bugs:
            step_size = -step_size
        generators = example_generators(range(len(images)), seed)
        images_adv = ball.perturb(images, ball.random(images, generators))
        for _ in range(steps):
            place = images if "stale" in bugs else images_adv
            _, gradient = input_gradient(model, place, labels)
            step = step_size * (gradient if "raw" in bugs else ball.steepest(gradient))
            if "previous" in bugs:
                images_adv = images_adv + ball.project(step)
            elif "unprojected" in bugs:
                images_adv = images_adv + step
            else:
                images_adv = images + ball.project(images_adv + step - images)
            if "unclipped" not in bugs:
                images_adv = images_adv.clamp(0, 1)
        return images_adv

    return attack


SIGNS = {
    "raw": "gradient's length",
    "previous": "point before it",
    "unclipped": "leaves [0, 1]",
    "stale": "never turns",
    "target": "away from the target",
}


@pytest.mark.parametrize("chosen", list(product([False, True], repeat=5)))
def test_the_check_names_exactly_the_bugs_that_are_in(chosen):
    bugs = {bug for bug, there in zip(SIGNS, chosen, strict=True) if there}
    said = verdict("9.2", _planted(bugs))
    assert (said == "correct") == (not bugs)
    assert {bug for bug, words in SIGNS.items() if words in said} == bugs


@torch.no_grad()
def _search(model, images, labels, ball, queries, *, keep=True, over=0):
    generator = torch.Generator().manual_seed(1)
    signs = 2.0 * torch.randint(0, 2, images.shape, generator=generator) - 1
    best = ball.perturb(images, ball.epsilon * signs)
    lowest = margin(model(best), labels)
    for _ in range(queries - 1 + over):
        side = int(torch.randint(1, 4, (1,), generator=generator))
        row, column = torch.randint(0, 9 - side, (2,), generator=generator).tolist()
        flipped = signs.clone()
        flipped[..., row : row + side, column : column + side] *= -1
        tried = ball.perturb(images, ball.epsilon * flipped)
        now = margin(model(tried), labels)
        better = (now < lowest) if keep else torch.ones_like(now, dtype=torch.bool)
        lowest = torch.where(better, now, lowest)
        signs = torch.where(better.view(-1, 1, 1, 1), flipped, signs)
        best = torch.where(better.view(-1, 1, 1, 1), tried, best)
    return best


def _share(distances, epsilon):
    return (distances <= epsilon).double().mean().item()


WRONG = [
    ("9.1", lambda *a: _worse(*a, by="loss"), "one that fools beats"),
    ("9.1", lambda *a: _worse(*a, by="fooled"), "larger loss is worse"),
    ("9.1", lambda _m, _y, first, _s: first, "larger loss is worse"),
    ("9.1", lambda _m, _y, first, second: (first + second) / 2, "neither of its two"),
    ("9.2", _planted({"unprojected"}), "nothing brings it back"),
    ("9.2", lambda m, x, *a, **k: x, "does it go uphill"),
    ("9.3", lambda d, e: 100 * _share(d, e), "percentage"),
    ("9.3", lambda d, e: 1 - _share(d, e), "robust accuracy"),
    ("9.3", lambda d, e: ((d < e).sum() / 6).item(), "contains its border"),
    ("9.3", lambda d, e: ((d <= e) & (d > 0)).double().mean(), "wrong without any attack"),
    ("9.3", lambda d, e: _share(d[d.isfinite()], e), "at ε = 0.04"),
    ("9.4", lambda *a: _search(*a, keep=False), "keep every change"),
    ("9.4", lambda *a: _search(*a, over=1), "801 times"),
    ("9.4", lambda m, x, y, b, q: (x + 0.2).clamp(0, 1), "leaves the ball"),
    ("9.4", lambda m, x, y, b, q: fgsm(m, x, y, b), "without gradient"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


RIGHT = [
    ("9.1", _worse),
    ("9.2", pgd),
    ("9.3", _share),
    ("9.3", lambda d, e: torch.tensor([x <= e for x in d.tolist()]).float().mean()),
    ("9.4", _search),
]


@pytest.mark.parametrize(("number", "attempt"), RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"
