"""What a report is made of: findings, and the attacks that were run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """Something about a model or an evaluation that its reader should know.

    Parameters
    ----------
    name : str
        What it is called, such as "zero gradient".
    evidence : str
        What was seen, with numbers.
    meaning : str
        What follows for the robust accuracy.
    remedy : str
        What to do.
    doubtful : bool
        Whether it makes the robust accuracy doubtful, and so is warned of.
    """

    name: str
    evidence: str
    meaning: str
    remedy: str
    doubtful: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}; {self.meaning}; {self.remedy}"


@dataclass(frozen=True)
class Stage:
    """One attack of an evaluation.

    Parameters
    ----------
    name : str
        The attack and what makes it strong, in words.
    attack : str
        The function, with its module.
    settings : dict
        All its optional arguments, as what JSON can hold.
    forwards, gradients : int
        Examples that the model classified for it, and those differentiated. Reports are
        equal without them: repeated work counts too.
    """

    name: str
    attack: str
    settings: Mapping[str, Any]
    forwards: int = field(default=0, compare=False)
    gradients: int = field(default=0, compare=False)
