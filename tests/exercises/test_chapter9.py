"""Chapter 9's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

from functools import partial
from itertools import pairwise, product
from math import comb

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from within_epsilon.attacks import fgsm, input_gradient, pgd
from within_epsilon.exercises import verdict
from within_epsilon.losses import cross_entropy, margin
from within_epsilon.models import digits_classifier
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
    said = verdict("9.3", _planted(bugs))
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


def _own_gradient(model, images, labels, ball, *, steps=40, step_size=None, targeted=False, seed=0):
    """PGD by torch alone, from the clean image, which keeps the best point it has seen."""
    step_size = step_size or 2.5 * ball.epsilon / steps
    lowest, highest = (images - ball.epsilon).clamp(min=0), (images + ball.epsilon).clamp(max=1)
    best, record = images, torch.full((len(images),), -torch.inf)
    images_adv = images.clone()
    for step in range(steps + 1):
        images_adv.requires_grad_()
        losses = torch.nn.functional.cross_entropy(model(images_adv), labels, reduction="none")
        losses = -losses if targeted else losses
        (gradient,) = torch.autograd.grad(losses.mean(), images_adv)
        images_adv, losses = images_adv.detach(), losses.detach()
        best = torch.where((losses > record).view(-1, 1, 1, 1), images_adv, best)
        record = losses.maximum(record)
        if step < steps:
            moved = images_adv + step_size * gradient.sign()
            images_adv = moved.maximum(lowest).minimum(highest)
    return best


def _around_the_start(model, images, labels, ball, *, seed=0, **options):
    """PGD in a ball around its own random start."""
    generator = torch.Generator().manual_seed(seed)
    start = images + ball.epsilon * torch.randn(images.shape, generator=generator).sign()
    return pgd(model, start.clamp(0, 1), labels, ball, random_start=False, **options)


def _flipped(model, images, labels, ball, *, targeted=False, **options):
    return pgd(model, images, labels, ball, targeted=not targeted, **options)


def _deaf(model, images, labels, ball, *, step_size=None, **options):
    return pgd(model, images, labels, ball, **options)


def _euclidean(model, images, labels, ball, *, steps=40, step_size=None, targeted=False, seed=0):
    """Steps along g / |g|_2 in an linf ball."""
    images_adv = images
    length = (step_size or 2.5 * ball.epsilon / steps) * (-1 if targeted else 1)
    for _ in range(steps):
        _, gradient = input_gradient(model, images_adv, labels)
        norms = gradient.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)
        images_adv = ball.perturb(images, images_adv + length * gradient / norms - images)
    return images_adv


def _flat_by_autograd(logits, labels):
    logits.requires_grad_()
    torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    return (logits.grad == 0).all(dim=1)


def _by_margin(model, labels, first, second):
    gains = [-margin(model(candidate), labels) for candidate in (first, second)]
    return torch.where((gains[1] > gains[0]).view(-1, 1, 1, 1), second, first)


def _first_if_both(model, labels, first, second):
    both = (model(first).argmax(dim=1) != labels) & (model(second).argmax(dim=1) != labels)
    return torch.where(both.view(-1, 1, 1, 1), first, _worse(model, labels, first, second))


def _one_by_one(model, labels, first, second):
    kept = first.clone()
    for row, label in enumerate(labels):
        logits = [model(candidate[row : row + 1])[0] for candidate in (first, second)]
        keys = [(int(z.argmax() != label), float(z.logsumexp(0) - z[label])) for z in logits]
        if keys[1] > keys[0]:
            kept[row] = second[row]
    return kept


def _white_box(model, images, labels, ball, queries):
    """PGD on the network that the black box is believed to hide."""
    inside = getattr(model, "model", None) or digits_classifier()
    model(images)
    return pgd(inside, images, labels, ball)


def _rule(step_size, losses, just_halved, best_before, *, share=0.75, count=None):
    rises = sum(b > a for a, b in pairwise(losses))
    stuck = not just_halved and max(losses) <= best_before
    few = rises < share * (count or len(losses) - 1)
    return step_size / 2 if few or stuck else step_size


def _coins(one, other):
    """The p-value by adding up all outcomes that are at least as uneven."""
    n = one + other
    return sum(comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(one - other)) / 2**n


def _ensemble(fooled, prices, *, p=_coins):
    left, price, added = set(range(fooled.shape[1])), 0.0, 0
    for row, cost in zip(fooled.tolist(), prices.tolist(), strict=True):
        price += cost * len(left) / fooled.shape[1]
        added = sum(row[i] for i in left)
        left = {i for i in left if not row[i]}
    first, last = fooled[0], fooled[-1]
    apart = int((first & ~last).sum()), int((last & ~first).sum())
    error = 1 - len(left) / fooled.shape[1]
    return {"error": error, "price": price, "last": added, "p": p(*apart)}


def _wald(one, other):
    """Two-sided, from a normal approximation to the differences."""
    n = one + other
    return (
        1.0
        if n == 0
        else float(torch.special.erfc(torch.tensor(abs(one - other) / (2 * n) ** 0.5)))
    )


def _from_scipy(one, other):
    return binomtest(one, one + other).pvalue if one + other else 1


def _totals(fooled):
    return int(fooled[0].sum()), int(fooled[-1].sum())


def _one_sided(one, other):
    return sum(comb(one + other, k) for k in range(max(one, other), one + other + 1)) / 2 ** (
        one + other
    )


def _share(distances, epsilon):
    return (distances <= epsilon).double().mean().item()


WRONG = [
    ("9.1", lambda *a: _worse(*a, by="loss"), "one that fools beats"),
    ("9.1", lambda *a: _worse(*a, by="fooled"), "larger loss is worse"),
    ("9.1", lambda _m, _y, first, _s: first, "larger loss is worse"),
    ("9.1", lambda _m, _y, first, second: (first + second) / 2, "neither of its two"),
    ("9.1", _by_margin, "not margin"),
    ("9.1", _first_if_both, "both fool"),
    ("9.2", lambda z, y: margin(z, y) > 0, "small is not zero"),
    ("9.2", lambda z, y: z.sort().values.diff()[:, -1] > 104, "slope p_y - 1"),
    ("9.2", lambda z, y: margin(z, y).abs() > 104, "slope p_y - 1"),
    ("9.2", lambda z, y: z.amax(1) - z.amin(1) > 104, "within reach"),
    ("9.2", lambda z, y: z.gather(1, y[:, None])[:, 0] > 104, "with label 1 are not flat"),
    ("9.2", lambda z, y: (margin(z, y) > 104).unsqueeze(1), "one boolean"),
    ("9.2", lambda z, y: margin(z, y) > 88, "e^-89 is not 0 yet"),
    ("9.2", lambda z, y: margin(z, y) > 100, "e^-101 is not 0 yet"),
    ("9.2", lambda z, y: margin(z, y) > 112, "e^-106 rounds to 0"),
    ("9.3", _planted({"unprojected"}), "nothing brings it back"),
    ("9.3", lambda m, x, y, b, **k: fgsm(m, x, y, b), "1 gradient where steps = 10"),
    ("9.3", lambda m, x, y, b, **k: pgd(m, x, y, b, steps=3), "3 gradients where steps = 10"),
    ("9.3", lambda m, x, *a, **k: x, "0% of the way"),
    ("9.3", _around_the_start, "leaves the ball"),
    ("9.3", _flipped, "goes downhill"),
    ("9.3", _deaf, "whatever `step_size` says"),
    ("9.3", _euclidean, "steps of one length"),
    ("9.4", lambda d, e: 100 * _share(d, e), "percentage"),
    ("9.4", lambda d, e: 1 - _share(d, e), "robust accuracy"),
    ("9.4", lambda d, e: ((d < e).sum() / 6).item(), "contains its border"),
    ("9.4", lambda d, e: ((d <= e) & (d > 0)).double().mean(), "wrong without any attack"),
    ("9.4", lambda d, e: _share(d[d.isfinite()], e), "at ε = 0.04"),
    ("9.5", lambda *a: _search(*a, keep=False), "keep every change"),
    ("9.5", lambda *a: _search(*a, over=1), "801 times"),
    ("9.5", lambda m, x, y, b, q: (x + 0.2).clamp(0, 1), "leaves the ball"),
    ("9.5", lambda m, x, y, b, q: fgsm(m, x, y, b), "it stopped with"),
    ("9.5", _white_box, "keep every change"),
    ("9.5", lambda m, x, y, b, q: pgd(m.model, x, y, b), "no attribute 'model'"),
    ("9.5", lambda m, x, y, b, q: pgd(digits_classifier(), x, y, b), "never asked"),
    ("9.4", lambda d, e: d <= e, "must return a number, got shape (6,)"),
    ("9.6", lambda a, losses, h, b: _rule(a, losses, h, b, count=len(losses)), "five losses"),
    ("9.6", lambda a, losses, h, b: _rule(a, losses, False, b), "give it a chance"),
    ("9.6", lambda a, losses, h, b: _rule(a, losses, True, b), "not just been halved"),
    ("9.6", lambda a, losses, h, b: _rule(a, losses, h, b, share=0.5), "only two of four"),
    ("9.6", lambda a, losses, h, b: a if h else _rule(a, losses, h, b), "too few steps rose"),
    ("9.6", lambda a, losses, h, b: [a], "must return a number"),
    ("9.7", lambda f, p: _ensemble(f, p) | {"price": p.sum()}, "only on images that still stand"),
    ("9.7", lambda f, p: _ensemble(f, p) | {"error": f[1].double().mean()}, "*any* of the attacks"),
    ("9.7", lambda f, p: _ensemble(f, p) | {"last": f[-1].sum()}, "only the last attack adds"),
    ("9.7", lambda f, p: _ensemble(f, p, p=_wald), "coins fall"),
    ("9.7", lambda f, p: _ensemble(f, p, p=_one_sided), "to the one side or the other"),
    (
        "9.7",
        lambda f, p: _ensemble(f, p) | {"p": _coins(int(f[0].sum()), int(f[-1].sum()))},
        "coins",
    ),
    ("9.7", lambda f, p: {"error": 0.5}, "nothing yet for price, last, p"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


RIGHT = [
    ("9.1", _worse),
    ("9.1", _one_by_one),
    ("9.2", lambda z, y: margin(z, y) > 104),
    ("9.2", lambda z, y: (z.softmax(1) - torch.eye(z.shape[1])[y] == 0).all(1)),
    ("9.2", _flat_by_autograd),
    ("9.3", pgd),
    ("9.3", _own_gradient),
    ("9.3", partial(pgd, restarts=3)),
    ("9.3", partial(pgd, random_start=False, momentum=0.5)),
    ("9.4", _share),
    ("9.4", lambda d, e: torch.tensor([x <= e for x in d.tolist()]).float().mean()),
    ("9.5", _search),
    ("9.1", lambda *a: _worse(*a).double().numpy()),
    ("9.2", lambda z, y: (margin(z, y) > 103.5).tolist()),
    ("9.2", lambda z, y: (margin(z, y) > 104).int().numpy()),
    ("9.3", lambda *a, **k: pgd(*a, **k).numpy()),
    ("9.4", lambda d, e: np.mean(d.numpy() <= e)),
    ("9.5", lambda *a: _search(*a).numpy()),
    ("9.5", lambda m, x, y, b, q: list(_search(m, x, y, b, q - 100))),
    ("9.6", _rule),
    ("9.6", lambda *a: np.float32(_rule(*a))),
    ("9.6", lambda *a: torch.tensor([_rule(*a)])),
    ("9.7", _ensemble),
    ("9.7", lambda f, p: {name: torch.tensor(v) for name, v in _ensemble(f, p).items()}),
    (
        "9.7",
        lambda f, p: _ensemble(f, p, p=lambda a, b: binomtest(a, a + b).pvalue if a + b else 1),
    ),
]


@pytest.mark.parametrize(("number", "attempt"), RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"
