"""Every finding about a doubtful evaluation: it is made where it should be, and only there."""

import re
import warnings
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from within_epsilon.attacks import (
    apgd,
    autoattack,
    count_evaluations,
    fgsm,
    noise_control,
    pgd,
    square,
)
from within_epsilon.data import digits
from within_epsilon.evaluation import (
    DoubtfulEvaluationWarning,
    accuracy,
    diagnose,
    robust_accuracy,
)
from within_epsilon.losses import cross_entropy, margin_loss
from within_epsilon.models import digits_classifier, mlp, small_cnn
from within_epsilon.threat import Ball
from within_epsilon.training import fit

BALL = Ball("linf", 0.1)
TEST = digits().test
EXAMPLES = TEST.images[:100], TEST.labels[:100]


class Changed(nn.Module):
    """The digits network behind something that changes pixels or logits."""

    def __init__(self, before=None, after=None, network=None):
        super().__init__()
        self.network = network or digits_classifier()
        self.before, self.after = before or nn.Identity(), after or nn.Identity()
        self.eval()

    def forward(self, images):
        return self.after(self.network(self.before(images)))


class Does(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


class Reversed(torch.autograd.Function):
    """The identity, with minus its gradient."""

    @staticmethod
    def forward(context, images):
        return images.clone()

    @staticmethod
    def backward(context, gradient):
        return -gradient


class Shuffled(torch.autograd.Function):
    """The identity, with the pixels of its gradient in another order."""

    @staticmethod
    def forward(context, images):
        return images.clone()

    @staticmethod
    def backward(context, gradient):
        order = torch.randperm(gradient[0].numel(), generator=torch.Generator().manual_seed(0))
        return gradient.flatten(1)[:, order].view_as(gradient)


def noisy(images):
    return images + 0.2 * torch.rand_like(images)


def coarse(images):
    return (images * 16).round() / 16


def minus_infinity(logits):
    return torch.cat((logits, torch.full_like(logits[:, :1], -torch.inf)), dim=1)


def falling(logits, labels):
    return -cross_entropy(logits, labels)


def one_training():
    model = Changed(network=nn.Sequential(nn.Dropout(0.2), digits_classifier()))
    model.network[0].train()
    return model


def quantised():
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that quantisation moves elsewhere
        return torch.ao.quantization.quantize_dynamic(mlp(64, 10).eval(), {nn.Linear})


SHORT = partial(pgd, steps=1, step_size=1e-4, random_start=False)
SQUARE = partial(square, queries=100)
# Model, attack, and the names of what is found, with the evidence of the first.
DOUBTFUL = {
    "softmax": (Changed(after=nn.Softmax(dim=1)), fgsm, "probabilities", "sum to 1"),
    "sigmoids": (Changed(after=nn.Sigmoid()), fgsm, "probabilities", "as after sigmoids"),
    "softmax, coarse": (
        nn.Sequential(
            Does(lambda x: x.bfloat16()), digits_classifier().bfloat16(), nn.Softmax(1)
        ).eval(),
        noise_control,
        "probabilities",
        "sum to 1",
    ),
    "random": (Changed(before=Does(noisy)), fgsm, "randomness", "64 of 64"),
    "one submodule": (one_training(), fgsm, "train mode", r"network\.0"),
    "detached": (Changed(before=Does(torch.detach)), SQUARE, "no gradient", ""),
    "quantised": (quantised(), SQUARE, "no gradient", "quantised: "),
    "zero": (Changed(before=Does(coarse)), fgsm, "zero gradient", "64 of 64"),
    "saturated": (
        Changed(after=Does(lambda logits: 1e3 * logits)),
        fgsm,
        "flat loss",
        "of 64 examples, which are",
    ),
    "wrong sign": (
        digits_classifier(),
        partial(pgd, loss=falling),
        "loss of the wrong sign",
        "64 of 64",
    ),
    "weak": (digits_classifier(), SHORT, "FGSM is better", r"fools \d+ of 63 .* only 0"),
    "reversed": (Changed(before=Does(Reversed.apply)), pgd, "misleading gradient", "64 of 64"),
    "climbing down": (Changed(before=Does(Reversed.apply)), pgd, "falling loss", "63 of 63"),
    "shuffled": (
        Changed(before=Does(Shuffled.apply)),
        pgd,
        "misleading gradient",
        "of 64 examples",
    ),
    "shuffled, Square": (
        Changed(before=Does(Shuffled.apply)),
        partial(autoattack, steps=6, targets=2, queries=300),
        "gradient-free attack finds more",
        "Square",
    ),
}


def by_place(images):
    """Add noise that follows from the place in the batch."""
    return images + 0.3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


DOUBTFUL |= {
    name: (Changed(after=Does(function)), pgd, "saturated outputs", "of 64 examples, as after")
    for name, function in {
        "tanh": lambda z: (z / 2).tanh(),
        "sigmoids of 10": lambda z: 10 * z.sigmoid(),
        "sigmoids below 0": lambda z: z.sigmoid() - 1,
        "percent": lambda z: 100 * z.softmax(1),
    }.items()
}
DOUBTFUL |= {
    "tiny": (Changed(after=Does(lambda z: 1e-6 * z)), pgd, "small logits", "weighs all other"),
    "small": (Changed(after=Does(lambda z: 0.05 * z)), pgd, "small logits", "weighs all other"),
    "a fifth": (
        Changed(after=Does(lambda z: 0.2 * z)),
        pgd,
        "weak loss",
        r"10 steps of PGD fool \d+ of 64 examples with it, and \d+ with the margin loss",
    ),
    "batch mean": (
        Changed(before=Does(lambda x: (x - x.mean(0) / 2).clamp(0, 1))),
        pgd,
        "batch dependence",
        "64 of 64",
    ),
    "seeded noise": (Changed(before=Does(by_place)), pgd, "batch dependence", "of 64 examples"),
    "no statistics": (
        nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), digits_classifier()).eval(),
        pgd,
        "batch dependence",
        "of 64 examples",
    ),
}
SQUEEZING = {
    "softsign": F.softsign,
    "softsign of 10": lambda z: 10 * F.softsign(z),
    "softsign, less": lambda z: F.softsign(z / 3),
    "arctan": torch.atan,
    "arctan, less": lambda z: torch.atan(z / 3),
    "log-sigmoid": F.logsigmoid,
    "clamp": lambda z: z.clamp(max=5),
}
DOUBTFUL |= {
    name: (Changed(after=Does(function)), pgd, "saturated outputs", "by unlike parts")
    for name, function in SQUEEZING.items()
}
HARMLESS = {
    "clamp": (Changed(before=Does(lambda x: x.clamp(0, 1))), "zero gradient at 0 and 1"),
    "in place": (Changed(before=Does(lambda x: 2 * x.mul_(0.5))), "in-place writes"),
    "impossible": (Changed(after=Does(minus_infinity)), "impossible classes"),
}


def warnings_of(model, attack, examples=EXAMPLES, ball=BALL, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        robust_accuracy(model, examples, attack, ball, **options)
    # On Python 3.13 torch's compiler warns of what it does itself.
    said = [w for w in caught if "_dynamo" not in w.filename]
    assert [w.filename for w in said] == [__file__] * len(said), list(map(str, said))
    return [str(warning.message) for warning in said]


@pytest.mark.parametrize("batch_size", [30, 256])
@pytest.mark.parametrize("what", DOUBTFUL)
def test_what_only_looks_robust_is_found_and_warned_of_once(what, batch_size):
    model, attack, name, evidence = DOUBTFUL[what]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = robust_accuracy(model, EXAMPLES, attack, BALL, batch_size=batch_size)
    (finding,) = [finding for finding in report.findings if finding.name == name]
    assert re.search(evidence, finding.evidence)
    assert finding.doubtful
    said = [str(warning.message) for warning in caught if warning.filename == __file__]
    assert said.count(str(finding)) == 1
    assert name in str(report)


def slope_of_clamp_at_zero():
    pixel = torch.zeros(1, requires_grad=True)
    pixel.clamp(0, 1).backward()
    return pixel.grad.item()


@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_harmless_for_the_library_is_a_note_and_changes_nothing(what):
    def own(model, images, labels, ball):
        return pgd(model, images, labels, ball)

    model, name = HARMLESS[what]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = robust_accuracy(model, EXAMPLES, pgd, BALL)
    # Before torch 2.14 clamp has a gradient at its bounds, and there is nothing to find.
    nothing = what == "clamp" and slope_of_clamp_at_zero() == 1
    expected = [] if nothing else [(name, False)]
    assert [(finding.name, finding.doubtful) for finding in report.findings] == expected
    assert report.outcomes == robust_accuracy(digits_classifier(), EXAMPLES, pgd, BALL).outcomes
    if what == "impossible" or nothing:
        return
    with pytest.warns(DoubtfulEvaluationWarning, match=name):
        robust_accuracy(model, EXAMPLES, own, BALL)


def test_diagnose_alone_returns_findings_and_leaves_all_as_it_was():
    model = Changed(before=Does(lambda x: 2 * x.mul_(0.5)), after=nn.Softmax(dim=1))
    images, state = TEST.images[:20].clone(), torch.get_rng_state()
    found = diagnose(model, images, TEST.labels[:20], BALL)
    assert [finding.name for finding in found] == ["probabilities", "in-place writes"]
    assert all(finding.evidence and finding.meaning and finding.remedy for finding in found)
    assert torch.equal(images, TEST.images[:20])
    assert torch.equal(state, torch.get_rng_state())
    assert diagnose(digits_classifier(), images, TEST.labels[:20], BALL) == []


def test_a_gradient_that_overflows_is_found():
    class Sharp(nn.Module):
        def forward(self, images):
            logits = images.flatten(1)[:, :2]
            return logits + 0 * (images.flatten(1).sum(dim=1, keepdim=True) - 1).abs().sqrt()

    images = torch.tensor([[0.2, 0.3, 0.3], [0.2, 0.4, 0.4]])  # the root's slope at 0
    (finding,) = diagnose(Sharp(), images, torch.ones(2, dtype=torch.int64), BALL)
    assert finding.name == "gradient not finite"


@pytest.mark.parametrize("ball", [BALL, Ball("l2", 0.5), Ball("l1", 2.0), Ball("linf", 0)], ids=str)
@pytest.mark.parametrize(
    "attack",
    [
        fgsm,
        pgd,
        noise_control,
        partial(pgd, steps=10, restarts=2, loss=margin_loss),
        [fgsm, partial(pgd, steps=10)],
        partial(apgd, steps=10),
        partial(autoattack, steps=4, targets=2, queries=10),
    ],
    ids=["fgsm", "pgd", "noise", "margin", "ensemble", "apgd", "autoattack"],
)
@pytest.mark.parametrize("batch_size", [30, 256])
def test_an_honest_model_gets_no_warning(attack, ball, batch_size):
    assert warnings_of(digits_classifier(), attack, ball=ball, batch_size=batch_size) == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["linear", "two classes", "trained against PGD"])
def test_honest_models_of_other_kinds_get_no_warning(kind, seed):
    torch.manual_seed(seed)
    train, labels = digits().train, TEST.labels[:100]
    if kind == "trained against PGD":
        model = small_cnn()
        optimiser = torch.optim.Adam(model.parameters(), 3e-3)
        for rows in [*torch.randperm(len(train)).split(64)] * 4:
            images, answers = train[rows]
            images = pgd(model.eval(), images, answers, Ball("linf", 0.2), steps=3)
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images), answers).backward()
            optimiser.step()
    else:
        classes = 2 if kind == "two classes" else 10
        model = mlp(64, *([16] if kind == "two classes" else []), classes)
        data = SimpleNamespace(images=train.images, labels=train.labels % classes)
        fit(model, data, epochs=4, batch_size=32, step_size=0.1, progress=False)
        labels = labels % classes
    data = TEST.images[:100], labels
    assert (
        warnings_of(model.eval(), partial(autoattack, steps=5, targets=2, queries=50), data) == []
    )
    said = warnings_of(model, pgd, data)
    if said:  # one that is true: the numbers of PGD on these are too high
        assert [message.split(":")[0] for message in said] == ["weak loss"]
        assert warnings_of(model, partial(pgd, loss=margin_loss), data) == []
        on_margins, as_it_is = (
            robust_accuracy(model, data, attack, BALL, diagnose=False).robust
            for attack in (partial(pgd, loss=margin_loss), pgd)
        )
        assert on_margins <= as_it_is - 3


@pytest.mark.parametrize(
    "model",
    [
        nn.DataParallel(digits_classifier().eval()),
        torch.compile(digits_classifier(), backend="eager"),
        digits_classifier().train(),  # where nothing asks for the mode
    ],
    ids=["DataParallel", "compiled", "train mode without effect"],
)
def test_wrapped_models_get_no_warning(model):
    assert warnings_of(model, pgd) == []


def test_doubts_can_be_switched_off_but_for_the_mode():
    model = Changed(after=nn.Softmax(dim=1))
    assert warnings_of(model, fgsm, diagnose=False) == []
    assert "train mode" in "".join(warnings_of(one_training(), fgsm, diagnose=False))


def test_what_an_attack_does_to_the_model_is_put_back_before_it_is_judged():
    def own(model, images, labels, ball):
        images_adv = fgsm(model, images, labels, ball)
        nn.functional.cross_entropy(model(images_adv), labels).backward()
        model.train()
        model.std.mul_(2)
        torch.manual_seed(0)
        return images_adv

    model, state = digits_classifier(), torch.get_rng_state()
    report = robust_accuracy(model, EXAMPLES, own, BALL, diagnose=False)
    assert report.outcomes == robust_accuracy(model, EXAMPLES, fgsm, BALL).outcomes
    assert not any(module.training for module in model.modules())
    assert torch.equal(model.std, digits_classifier().std)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(state, torch.get_rng_state())


def passes_on(model, images, labels, ball, **options):
    return fgsm(model, images, labels, ball, **options)


def averages(model, images, labels, ball, loss=nn.functional.cross_entropy, callback=None):
    images_adv = fgsm(model, images, labels, ball)
    if callback is not None:
        callback(1, images_adv, loss(model(images_adv), labels))
    return images_adv


def counts(model, images, labels, ball, loss=lambda logits: logits.sum(), callback=None):
    if callback is not None:
        callback("begun")
        callback(1, images, torch.zeros(len(images)))  # no step 0
        callback(step=2)
    return fgsm(model, images, labels, ball)


@pytest.mark.parametrize("attack", [passes_on, averages, counts])
def test_an_attack_of_ones_own_may_mean_something_else_by_options_and_losses(attack):
    assert warnings_of(digits_classifier(), attack) == []


def test_a_saturated_loss_is_no_doubt_when_the_attack_has_a_better_one():
    model = Changed(after=Does(lambda logits: 1e6 * logits))
    assert warnings_of(model, partial(pgd, steps=5, loss=margin_loss)) == []


class Switching(Changed):
    """Goes into train mode by itself, whatever mode it is given in."""

    def __init__(self):
        super().__init__(before=nn.Dropout(0.5))

    def forward(self, images):
        self.train()
        return super().forward(images)


def test_a_model_that_goes_into_train_mode_by_itself_is_found():
    assert any("train mode" in each for each in warnings_of(Switching(), fgsm))
    with pytest.warns(DoubtfulEvaluationWarning, match="train mode"):
        accuracy(Switching(), *EXAMPLES)


class Softsign(torch.autograd.Function):
    @staticmethod
    def forward(context, logits):
        context.save_for_backward(logits)
        return F.softsign(logits)

    @staticmethod
    def backward(context, gradient):
        return gradient / (1 + context.saved_tensors[0].abs()) ** 2


@pytest.mark.parametrize("robust", [None, "l2"])
@pytest.mark.parametrize(
    "squeeze",
    [Softsign.apply, torch.asinh, lambda z: (z.sigmoid() + 1e-6).log()],
    ids=["own function", "asinh", "log of sigmoids"],
)
def test_what_bends_outputs_is_found_by_what_it_does_to_the_margin(squeeze, robust):
    model = Changed(after=Does(squeeze), network=digits_classifier(robust))
    found = diagnose(model, *(part[:64] for part in EXAMPLES), BALL)
    assert "saturated outputs" in {finding.name for finding in found}


@pytest.mark.parametrize("count", [1, 64])
@pytest.mark.parametrize("robust", ["linf", "l2", "certified"])
@pytest.mark.parametrize("what", SQUEEZING)
def test_squeezed_outputs_of_robust_networks_are_found(what, robust, count):
    model = Changed(after=Does(SQUEEZING[what]), network=digits_classifier(robust))
    images, labels = (part[:count] for part in EXAMPLES)
    if what == "clamp" and count == 1:  # it may not reach
        return
    assert "saturated outputs" in {each.name for each in diagnose(model, images, labels, BALL)}


def test_a_relu_on_the_outputs_and_a_compiled_softsign_are_found():
    models = [Changed(after=nn.ReLU(), network=digits_classifier("l2"))]
    if hasattr(torch.compiler, "set_stance"):  # before torch 2.6 a compiled model shows no parts
        models.append(torch.compile(Changed(after=Does(F.softsign)), backend="aot_eager"))
    for model in models:
        found = diagnose(model, *(part[:16] for part in EXAMPLES), BALL)
        assert "saturated outputs" in {finding.name for finding in found}


@pytest.mark.parametrize("robust", [None, "linf", "l2", "certified"])
@pytest.mark.parametrize(
    "change",
    [
        lambda z: z,
        lambda z: 30 * (z / 30).tanh(),
        lambda z: (z + 3.0) / torch.full((1, 10), 2.0, requires_grad=True),
        lambda z: z.clamp(-50, 50),
        lambda z: z - 40,
        lambda z: z.log_softmax(1),
        lambda z: (z.softmax(1) + 1e-30).log(),
        lambda z: torch.stack([z.softmax(1), (z / 2).softmax(1)]).mean(0).log(),
        lambda z: 10 * F.normalize(z, dim=1),
        lambda z: 5 * F.layer_norm(z, z.shape[1:]),
        lambda z: z.sign() * z.abs().sqrt() * 4,
    ],
    ids=[
        "as they are",
        "soft cap",
        "scale",
        "far clamp",
        "below 0",
        "log-softmax",
        "log of softmax",
        "log of a mean",
        "cosine",
        "layer norm",
        "root",
    ],
)
def test_outputs_that_only_look_squeezed_are_no_doubt(change, robust):
    model = Changed(after=Does(change), network=digits_classifier(robust))
    found = diagnose(model, *(part[:64] for part in EXAMPLES), BALL)
    assert "saturated outputs" not in {finding.name for finding in found}


@pytest.mark.parametrize("batch_size", [10, 400])
def test_looking_for_doubts_costs_what_it_says(batch_size):
    model, data = digits_classifier(), (TEST.images, TEST.labels)
    spent = {}
    for looks in (True, False):
        with count_evaluations(model) as spent[looks]:
            robust_accuracy(model, data, pgd, BALL, batch_size=batch_size, diagnose=looks)
    gradients = spent[True].gradients - spent[False].gradients
    assert gradients <= 3 * 64
    assert spent[True].forwards - spent[False].forwards - gradients <= 7 * 64


def test_a_callback_of_the_readers_own_is_left_alone():
    steps = []
    watch = partial(pgd, steps=3, callback=lambda step, images_adv, losses: steps.append(step))
    assert warnings_of(digits_classifier(), watch, batch_size=50) == []
    assert steps == [0, 1, 2, 3] * 2


@pytest.mark.parametrize(
    "ball",
    [
        Ball("linf", 0.1, torch.zeros(1, 1, 8, 8, dtype=torch.bool)),
        Ball("l2", 0.5, (torch.arange(100) % 2 == 0).view(-1, 1, 1, 1).expand(100, 1, 8, 8)),
    ],
    ids=["none", "some"],
)
def test_images_that_a_mask_holds_in_place_are_no_sign_of_a_weak_attack(ball):
    assert warnings_of(digits_classifier(), partial(pgd, steps=10), ball=ball) == []


def test_one_image_alone_shows_that_a_model_looks_at_the_others():
    model = Changed(before=Does(lambda x: (x - x.mean(0) / 2).clamp(0, 1)))
    found = diagnose(model, TEST.images[:1], TEST.labels[:1], BALL)
    assert "batch dependence" in [finding.name for finding in found]


def test_in_place_writes_are_harmless_for_the_noise_control():
    model = Changed(before=Does(lambda x: x.mul_(0.9)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = robust_accuracy(model, EXAMPLES, noise_control, BALL)
    assert [f.doubtful for f in report.findings if f.name == "in-place writes"] == [False]
