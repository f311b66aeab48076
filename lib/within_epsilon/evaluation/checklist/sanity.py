"""A checklist for who is about to believe a robust accuracy."""

import warnings
from collections.abc import Callable
from itertools import pairwise

from torch import nn

from within_epsilon.checks import check_counts, check_model
from within_epsilon.evaluation.checklist.trials import Trials
from within_epsilon.evaluation.core.examples import Data
from within_epsilon.reports import Check, SanityReport
from within_epsilon.threat import Ball, check_ball

# What ought to be, and the findings of `diagnose` and of `robust_accuracy` that say otherwise.
_LOOKED = {
    "it is in eval mode": {"train mode"},
    "one image, one answer": {"randomness", "batch dependence"},
    "it returns logits": {"probabilities", "saturated outputs"},
    "the cross-entropy has a slope": {"flat loss", "small logits"},
    "gradients predict the loss": {
        *("no gradient", "gradient not finite", "zero gradient", "misleading gradient"),
        "gradient with holes",
    },
    "steps make the loss rise": {"falling loss"},
}


def sanity_report(
    model: nn.Module,
    data: Data,
    ball: Ball,
    *,
    substitute: nn.Module | None = None,
    reject: int | None = None,
    steps: int = 40,
    queries: int = 500,
    samples: int = 10,
    seed: int = 0,
) -> SanityReport:
    """Go through a checklist of what broken evaluations and masked gradients look like.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    data : Data
        As for `robust_accuracy`, all of one shape; a hundred examples are enough.
    ball : Ball
        The threat model, epsilon > 0.
    substitute : nn.Module, optional
        A model of the same task without a defence, to transfer attacks from.
    reject : int, optional
        The class that means "none of these", of a model that may refuse to answer; by default
        what its attribute ``reject`` says, if it has one.
    steps, queries, samples : int
        Of PGD, of Square and of the mean over a random model's draws, each >= 1.
    seed : int
        Of the experiment.

    Returns
    -------
    SanityReport
        What passed, what failed, what that means and what to run next. That all is passed
        proves nothing; `attacks.autoattack` and an attack made for the model come next.

    Raises
    ------
    TypeError, ValueError
        If data, model or settings are unusable, see `checks`, or epsilon is 0.

    Notes
    -----
    Costs some 500 gradients and 1,000 forward passes an example, and as many gradients again
    for a random model. Comparisons count examples, and leave a difference of four, or of 2%,
    to chance; that between one run and five, 10%. The margin loss, which is the better one on
    many an honest network, must find twice as many.

    References
    ----------
    Carlini et al., "On Evaluating Adversarial Robustness", arXiv:1902.06705, 2019, sections 3
    to 5. Tramèr, Carlini, Brendel, Mądry, "On Adaptive Attacks to Adversarial Example
    Defenses", NeurIPS 2020. Athalye, Carlini, Wagner, ICML 2018, section 3.1.
    """
    check_model(model)
    check_ball(ball)
    check_counts(steps=steps, queries=queries, samples=samples)
    if ball.epsilon == 0:
        raise ValueError("ball: expected epsilon > 0, received 0; give the radius of the claim")
    reject = getattr(model, "reject", None) if reject is None else reject
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report says it all
        trials = Trials(model, data, ball, reject, steps, queries, samples, seed)
        checks = [_looked(trials, name) for name in _LOOKED]
        checks += [check for run in _CHECKS for check in run(trials, substitute)]
    return SanityReport(ball, trials.n, trials.clean, trials.robust, tuple(checks))


def _looked(trials: Trials, name: str) -> Check:
    """Turn findings into a line of the checklist."""
    for finding in trials.findings:
        if finding.name in _LOOKED[name] and finding.doubtful:
            return Check(name, "failed", finding.evidence, finding.meaning, finding.remedy)
    if name == "steps make the loss rise" and not trials.gradients:
        return Check(name, "not run", "there is no gradient")
    return Check(name, "passed", "nothing was found to the contrary")


Judged = list[Check]


def _even(trials: Trials, _: nn.Module | None) -> Judged:
    name = "the loss has no jumps"
    if trials.random:
        return [Check(name, "not run", "the model answers anew each time")]
    sizes = trials.jumps()
    high = sizes[sizes > 0]
    evidence = f"it jumps for {len(high)} of {len(sizes)} examples on the way to noise"
    if len(high):
        evidence += f", by {high.median().item():.2g} of the largest logit (median)"
    return [
        Check(
            name,
            "failed" if trials.more(len(high), 0) else "passed",
            evidence,
            "a gradient says nothing of what lies behind a jump, and attacks that follow it miss "
            "what is there",
            "look for rounding, thresholds and winners that change; give the attack many restarts, "
            "and beside it one without gradients",
        )
    ]


def _controls(trials: Trials, _: nn.Module | None) -> Judged:
    return [
        _compare(
            trials,
            ("PGD beats one step", "PGD", "fgsm"),
            "the loss is not what its gradient says, or the attack is too weak",
            "look at the loss along the step; try other step sizes and losses",
        ),
        _compare(
            trials,
            ("PGD beats noise", "PGD", "noise"),
            "the attack does not attack",
            "look for a gradient that is lost, and for a threat model in other units",
        ),
        _compare(
            trials,
            ("more steps help", "PGD", "few steps"),
            "the attack goes astray: its steps or the gradients mislead",
            "plot the loss against steps, for single images",
        ),
        _compare(
            trials,
            ("restarts find little more", "PGD", "restarts"),
            "the loss is rugged, and where an attack ends is chance",
            "give the attack many restarts, and beside it one without gradients",
            share=0.1,  # an honest network at its own training's radius may lose 6%
        ),
    ]


def _losses(trials: Trials, _: nn.Module | None) -> Judged:
    checks = [
        _compare(
            trials,
            ("the margin loss finds little more", "PGD", "margin"),
            "the cross-entropy is flat where the logits are large",
            "use losses.margin_loss or losses.dlr, or autoattack, which does",
            factor=2,  # on an honest network that PGD has trained, it may find half as many again
        )
    ]
    if trials.reject is not None:
        checks.append(
            _compare(
                trials,
                ("the refusal is attacked too", "PGD", "unnoticed"),
                "the attack is content to be refused, and refusals count as robust",
                "raise attacks.unnoticed_margin, with attacks.unnoticed around the attack",
            )
        )
    return checks


def _gradient_free(trials: Trials, _: nn.Module | None) -> Judged:
    name = "scores alone find no more"
    if not trials.gradients:
        found = trials.clean - trials.robust
        return [
            Check(name, "not run", f"without gradients, Square fools {found} of {trials.clean}")
        ]
    for finding in trials.staged:
        if finding.name == "gradient-free attack finds more":
            return [Check(name, "failed", finding.evidence, finding.meaning, finding.remedy)]
    found = trials.by_square
    return [Check(name, "passed", f"Square fools {found} that PGD left standing")]


def _radii(trials: Trials, _: nn.Module | None) -> Judged:
    name, lost = "error grows with ε", trials.by_radius()
    evidence = ", ".join(f"{count} lost at {radius}" for radius, count in lost.items())
    counts = list(lost.values())
    falls = any(trials.more(one, other) for one, other in pairwise(counts))
    means = "a larger ball contains the smaller: the attack fails in it"
    grows = Check(
        name, "failed" if falls else "passed", evidence, means, "give longer or more steps"
    )
    return [grows, _unbounded(trials)]


def _unbounded(trials: Trials) -> Check:
    """Climb without a bound, which an attack survives on an example of one kind alone.

    Of many honest networks, noise and what lies beyond is one class, without a slope: examples of
    that class have nowhere to climb to, and say nothing about the attack.
    """
    name, labels = "without a bound, all fall", trials.unbounded()
    if labels is None:
        return Check(name, "not run", "a mask bounds every attack")
    far = trials.said_of_noise() if labels else None
    aside = labels.count(far) if far is not None else 0
    stand = len(labels) - aside
    evidence = f"{stand} of {trials.clean} still stand when any image is allowed"
    if aside:
        evidence += f", beside {aside} of class {far}, which is what the model says of noise"
    return Check(
        name,
        "failed" if stand > max(1, 0.02 * trials.n) else "passed",
        evidence,
        "any image may be turned into one of another class, so the attack fails, not the adversary",
        "repair the attack before you believe it at a smaller ε: BPDA, another loss, averaging",
    )


def _averaging(trials: Trials, _: nn.Module | None) -> Judged:
    name = "averaging finds no more"
    if not trials.random or not trials.gradients:
        return [Check(name, "not run", "the model answers alike each time")]
    return [
        _compare(
            trials,
            (name, "PGD", "averaged"),
            "one draw's gradient says little of the next draw",
            "attack attacks.Averaged(model) with as many samples as you can pay for",
        )
    ]


def _transfer(trials: Trials, substitute: nn.Module | None) -> Judged:
    name = "transfer finds no more"
    if substitute is None:
        return [
            Check(name, "not run", "no substitute given", remedy="give one without the defence")
        ]
    trials.substitute = substitute
    return [
        _compare(
            trials,
            (name, "white box", "transfer"),
            "attacks on another model do better than those that see this one",
            "look for what hides the gradient, and attack the model without it",
        )
    ]


_CHECKS: tuple[Callable[[Trials, nn.Module | None], Judged], ...] = (
    *(_even, _controls, _losses, _gradient_free, _radii, _averaging, _transfer),
)


def _compare(
    trials: Trials,
    names: tuple[str, str, str],
    meaning: str,
    remedy: str,
    share: float = 0.02,
    factor: int = 1,
) -> Check:
    """Compare what the better attack ought to fool with what another one does."""
    name, better, other = names
    if not trials.gradients and {better, other} & trials.following:
        return Check(name, "not run", "there is no gradient")
    ours, theirs = trials.fooled(better), trials.fooled(other)
    return Check(
        name,
        "failed" if trials.more(theirs, factor * ours, share) else "passed",
        f"{trials.called(other)} fools {theirs} of {trials.clean}, {trials.called(better)} {ours}",
        meaning,
        remedy,
    )
