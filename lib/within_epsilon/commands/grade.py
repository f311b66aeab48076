"""`within-epsilon grade NOTEBOOK…`: points for a class, without trusting it."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from within_epsilon.grading import Grade

_NEEDED = ("cloudpickle", "ipykernel", "jupyter_client", "nbformat", "psutil")

EXAMPLES = """\b
All exercises of the chapter that each notebook is of, a point each:
  within-epsilon grade submissions/*.ipynb --out grades
\b
Two exercises, with a class's own inputs, four notebooks at a time:
  within-epsilon grade submissions/*.ipynb --exercise 9.3=4 --exercise 9.5 \\
      --seed 2026 --jobs 4
"""


@click.command(epilog=EXAMPLES)
@click.argument(
    "notebooks",
    nargs=-1,
    required=True,
    metavar="NOTEBOOK…",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--out",
    default="grades",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for grades.csv, index.html and a NAME/results.json for each notebook.",
)
@click.option("--chapter", help="Whose exercises count. Without it, each notebook's own.")
@click.option(
    "--exercise",
    "asked",
    multiple=True,
    metavar="NUMBER[=POINTS]",
    help="An exercise that counts, such as 5.1=2; may be repeated. Without it, all of the chapter, "
    "one point each.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="The class's variant of the checks' random inputs; 0 is the book's.",
)
@click.option("--time-limit", default=600.0, show_default=True, help="Seconds for a notebook.")
@click.option("--cell-limit", default=120.0, show_default=True, help="Seconds for a cell or check.")
@click.option("--memory", default=4.0, show_default=True, help="GiB for a notebook.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1),
              help="Notebooks graded at a time.")  # fmt: skip
def grade(
    notebooks: tuple[Path, ...],
    out: Path,
    chapter: str | None,
    asked: tuple[str, ...],
    seed: int,
    time_limit: float,
    cell_limit: float,
    memory: float,
    jobs: int,
) -> None:
    """Grade NOTEBOOKs: run each by itself and judge its answers.

    Nothing that a notebook prints, shows or has stored counts. Its answers are carried out of its
    kernel and judged in another process, by the library as it is installed here.
    """
    _require()
    from within_epsilon import grading
    from within_epsilon.commands.processes.files import require_writable, write_whole
    from within_epsilon.grading import results

    points = _points(asked, chapter, grading.exercises_of)
    limits = grading.Limits(time_limit, cell_limit, memory)
    names = _names(notebooks)
    require_writable(out / "grades.csv")

    def one(path: Path) -> Grade:
        done = grading.grade(
            path, name=names[path], chapter=chapter, points=points, seed=seed, limits=limits
        )
        folder = out / names[path]
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "results.json", results.to_gradescope(done))
        click.echo(f"{names[path]}: {done.points:g} of {done.most:g}")
        return done

    with ThreadPoolExecutor(jobs) as pool:
        grades = list(pool.map(one, names))
    write_whole(out / "grades.csv", results.to_csv(grades).encode("utf-8-sig"))
    write_whole(out / "index.html", results.to_html(grades))


def _require() -> None:
    """Leave with a sentence where grading cannot work."""
    from within_epsilon.grading.processes import supported

    if not supported():
        raise OSError(
            "grading needs Linux or macOS, because Windows has no limits on a process's memory "
            "that it could set: use WSL or a container"
        )
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f'grading needs {", ".join(missing)}: pip install "within-epsilon[grade]"'
        )


def _points(
    asked: tuple[str, ...], chapter: str | None, exercises_of: Callable[[str], list[str]]
) -> dict[str, float] | None:
    """Return what each exercise is worth, or None for the chapter of each notebook."""
    if not asked:
        return dict.fromkeys(exercises_of(chapter), 1.0) if chapter else None
    points = {}
    for item in asked:
        number, _, worth = item.partition("=")
        known = exercises_of(number.partition(".")[0])
        if number not in known:
            raise ValueError(f"--exercise: expected one of {', '.join(known)}, received {number!r}")
        try:
            points[number] = float(worth or 1)
        except ValueError:
            points[number] = -1
        if not 0 <= points[number] < float("inf"):
            raise ValueError(f"--exercise: expected points from 0 on, received {worth!r}")
    return points


def _names(notebooks: tuple[Path, ...]) -> dict[Path, str]:
    """Name each notebook after its file; where two are alike, after its folder too."""
    paths = list(dict.fromkeys(path.resolve() for path in notebooks))
    stems = Counter(path.stem for path in paths)
    names: dict[Path, str] = {}
    for path in paths:
        name = path.stem if stems[path.stem] == 1 else f"{path.parent.name}-{path.stem}"
        while name in names.values():
            name += "+"
        names[path] = name
    return names
