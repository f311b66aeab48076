"""The defence explorer: attacked models without their names, one of which is a fake."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import traitlets
from torch import Tensor, nn

from within_epsilon import plots
from within_epsilon.attacks import autoattack, pgd
from within_epsilon.evaluation import robust_accuracy
from within_epsilon.evaluation.core.examples import Data
from within_epsilon.threat import Ball
from within_epsilon.widgets.base import Explorer, state, still_picture
from within_epsilon.widgets.pictures import chart
from within_epsilon.wording import radius

# Where the curves are measured, by what they run over; radii and restarts with so many steps,
# unless a round is about an evaluation with fewer.
USUAL_STEPS = 20
STOPS: dict[str, tuple[float, ...]] = {
    "epsilon": (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0),
    "steps": (1, 2, 5, 10, 20, 50, 100),
    "restarts": (1, 2, 5, 10, 20),
}
LETTERS = "ABCD"


@dataclass(frozen=True)
class Case:
    """A model, and what plain PGD does to it.

    Parameters
    ----------
    name : str
        What the reader learns it is, such as "a standard network".
    n : int
        Number of examples.
    epsilon : float
        The radius of the curves over steps and restarts: one of the stops.
    lost : dict
        For each name in `STOPS`, how many examples are misclassified at each stop.
    tool : str
        Of a fake: what breaks it, in words. Empty for an honest model.
    why : str
        Of a fake: what gives it away.
    broken : tuple of int
        Of a fake: how many examples are lost to the tool at each radius.
    usual : int
        Steps of PGD in the curves over radii and restarts.
    judged : int, optional
        How many examples are lost, at `epsilon`, to the attack that breaks the round's fake. None
        if that was not measured.
    clue : str
        Of a fake: the name in `STOPS` of the curve that gives it away.
    by_autoattack : tuple of int
        How many examples are lost to AutoAttack at each radius. Empty if that was not measured.
    """

    name: str
    n: int
    epsilon: float
    lost: dict[str, tuple[int, ...]]
    tool: str = ""
    why: str = ""
    broken: tuple[int, ...] = field(default=())
    usual: int = USUAL_STEPS
    judged: int | None = None
    clue: str = "epsilon"
    by_autoattack: tuple[int, ...] = ()


def record_case(
    name: str,
    model: nn.Module,
    data: Data,
    epsilon: float = 0.1,
    *,
    tool: Callable[..., Tensor] | None = None,
    called: str = "",
    why: str = "",
    judge: Callable[..., Tensor] | None = None,
    usual: int = USUAL_STEPS,
    clue: str = "epsilon",
    thorough: bool = False,
    seed: int = 0,
) -> Case:
    """Attack a model with plain PGD, over radii, steps and restarts in turn.

    Parameters
    ----------
    name : str
        What the reader learns it is.
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    data : Data
        As for `evaluation.robust_accuracy`.
    epsilon : float
        The radius for steps and restarts: one of the stops.
    tool : callable, optional
        Of a fake: an attack that breaks it.
    called, why : str
        Of a fake: what the attack is called, and what gives the model away.
    judge : callable, optional
        Of an honest model: the attack that breaks the fake beside it. A fake's is its tool.
    usual : int
        Steps of PGD over radii and restarts: those of the evaluation that is to be doubted.
    clue : {"epsilon", "steps", "restarts"}
        Of a fake: which curve gives it away.
    thorough : bool
        Whether AutoAttack judges the model, too, at every radius. Costs many times the rest.
    seed : int
        Of the attacks.

    Returns
    -------
    Case
        Misclassified examples, those without attack included, in the l-infinity norm.

    Raises
    ------
    ValueError
        If epsilon is no stop, or clue no curve.
    """
    if clue not in STOPS:
        raise ValueError(f"clue: expected one of {tuple(STOPS)}, received {clue!r}")
    if epsilon not in STOPS["epsilon"]:
        raise ValueError(f"epsilon: expected one of {STOPS['epsilon']}, received {epsilon}")

    def lost(attack: Callable[..., Tensor], at: float = epsilon) -> tuple[int, int]:
        ball = Ball("linf", at)
        options = {"seed": seed, "diagnose": False, "progress": False}
        report = robust_accuracy(model, data, attack, ball, **options)  # type: ignore[arg-type]
        return report.n - report.robust, report.n

    climb = partial(pgd, steps=usual)
    runs = {
        "epsilon": [lost(climb, at) for at in STOPS["epsilon"]],
        "steps": [lost(partial(pgd, steps=int(steps))) for steps in STOPS["steps"]],
        "restarts": [lost(partial(climb, restarts=int(count))) for count in STOPS["restarts"]],
    }
    n = runs["steps"][0][1]

    def over_radii(attack: Callable[..., Tensor]) -> tuple[int, ...]:
        counts: list[int] = []
        for at in STOPS["epsilon"]:
            # A larger ball holds the smaller one: where all are lost, all stay lost.
            counts.append(n if n in counts else lost(attack, at)[0])
        return tuple(counts)

    case = Case(
        name,
        n,
        epsilon,
        {view: tuple(count for count, _ in run) for view, run in runs.items()},
        usual=usual,
        by_autoattack=over_radii(autoattack) if thorough else (),
    )
    if tool is None:
        return replace(case, judged=None if judge is None else lost(judge)[0])
    broken = over_radii(tool)
    judged = broken[STOPS["epsilon"].index(epsilon)]
    return replace(case, tool=called, why=why, broken=broken, judged=judged, clue=clue)


class DefenceExplorer(Explorer):
    """Tell the fake among attacked models by their curves alone, before their names are shown.

    Each round shows a few models by letter: how many examples each is claimed to keep, by plain
    PGD at one radius, and how many PGD makes it lose, over epsilon, over steps and over restarts.
    A curve is drawn as far as the reader has dragged. After a guess, names appear, the curve that
    gives the fake away, beside it that of the attack that breaks it, and a table of what that
    attack and AutoAttack do to all.

    Parameters
    ----------
    rounds : sequence of sequences of Case
        Two to four models each, of which one is a fake: it has a tool.
    view : {"epsilon", "steps", "restarts"}
        What runs along the axis.
    place : int
        Where along it the reader is, from 0. Later rounds begin there, too.
    round : int
        Which round, from 0.

    Raises
    ------
    ValueError
        If a round has too few or too many models, no fake or several, or models recorded at
        several radii, with several numbers of steps or on other numbers of examples.

    Notes
    -----
    With a kernel, `round`, `view`, `place`, `guess` (-1 for none) and `revealed` can be read,
    set and observed.
    """

    kind = "defences"

    rounds = state(traitlets.List())
    stops = state(traitlets.Dict())
    n = state(traitlets.Int())
    first = state(traitlets.Int())
    view = state(traitlets.Enum(tuple(STOPS), default_value="epsilon"))
    place = state(traitlets.Int(0, min=0))
    round = state(traitlets.Int(0, min=0))
    guess = state(traitlets.Int(-1, min=-1))
    revealed = state(traitlets.Bool(False))

    def __init__(
        self,
        rounds: Sequence[Sequence[Case]],
        *,
        view: str = "epsilon",
        place: int = 0,
        round: int = 0,  # noqa: A002 - the state's own name
    ) -> None:
        _check(rounds)
        super().__init__(
            rounds=[[asdict(case) for case in cases] for cases in rounds],
            stops={name: list(stops) for name, stops in STOPS.items()},
            n=rounds[0][0].n,
            first=place,
            view=view,
            place=place,
            round=round,
        )

    def summary(self) -> str:
        """Return how many rounds there are, and which is shown."""
        return f"round {self.round + 1} of {len(self.rounds)}, over {self.view}"

    def still(self) -> str:
        """Return the first round's curves over epsilon; who is the fake is folded away."""
        cases = self.rounds[self.round]
        series = {LETTERS[i]: case["lost"]["epsilon"] for i, case in enumerate(cases)}
        figure = plots.lines(
            self.stops["epsilon"],
            series,
            xlabel=f"ε (ℓ∞), PGD, {cases[0]['usual']} steps",
            ylabel=f"lost, of {self.n} digits",
            colours=dict.fromkeys(series, "#222222"),
        )
        ends = ", ".join(f"{letter} {counts[-1]}" for letter, counts in series.items())
        alt = f"Error against ε, a curve each; at ε = 1 are lost: {ends} of {self.n}"
        fake = next(i for i, case in enumerate(cases) if case["tool"])
        claim = cases[fake]["epsilon"]
        place = STOPS["epsilon"].index(claim)
        answer = (
            f"{LETTERS[fake]}, {cases[fake]['name']}. {cases[fake]['why']} "
            f"At ℓ∞ ε = {radius(claim)} {cases[fake]['tool']} makes it lose "
            f"{cases[fake]['broken'][place]} of {self.n}."
        )
        kept = ", ".join(
            f"{LETTERS[i]} {self.n - case['lost']['epsilon'][place]}"
            for i, case in enumerate(cases)
        )
        return (
            still_picture(chart(figure), alt)
            + f"<p>Claimed at ℓ∞ ε = {radius(claim)}: of {self.n} digits stand {kept}. One claim "
            "is far too high. Which?</p>"
            + f"<details><summary>Answer</summary><p>{html.escape(answer)}</p></details>"
        )


def _check(rounds: Sequence[Sequence[Case]]) -> None:
    if not rounds:
        raise ValueError("rounds: expected at least one, received none")
    for cases in rounds:
        fakes = sum(bool(case.tool) for case in cases)
        if not 2 <= len(cases) <= len(LETTERS) or fakes != 1:
            raise ValueError(
                f"rounds: expected 2 to {len(LETTERS)} cases in each, one of them with a tool that "
                f"breaks it, received {len(cases)} with {fakes}; see record_case"
            )
        if len({case.epsilon for case in cases}) > 1:
            raise ValueError("rounds: expected one radius in each; record its models at the same")
        if len({case.usual for case in cases}) > 1:
            raise ValueError(
                "rounds: expected one number of steps in each; record with one `usual`"
            )
    if len({case.n for cases in rounds for case in cases}) > 1:
        raise ValueError("rounds: expected one number of examples; record all on the same data")
