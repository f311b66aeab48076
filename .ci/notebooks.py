"""Run chapters top to bottom in fresh kernels and write them back in one normal form.

    python .ci/notebooks.py                       # every chapter
    python .ci/notebooks.py chapters/03_*.ipynb   # these

A chapter that needs data which cannot be had (`metadata.within_epsilon.needs`) is left as it is.
A chapter that fails is left as it is too, and the failing cell is shown.
"""

import base64
import io
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from within_epsilon.data import available

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def missing_data(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the names of the data that the notebook needs and that cannot be had here."""
    needs = notebook.metadata.get("within_epsilon", {}).get("needs", [])
    return [name for name in needs if not available(name)]


def merge_streams(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Join what was printed in one go; how it arrived in pieces differs from run to run."""
    merged: list[nbformat.NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and output.output_type == "stream" and last.get("name") == output.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def lighter(png: str) -> str:
    """Pack a PNG's same pixels into fewer bytes: no alpha channel where all is opaque."""
    picture: Image.Image = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    packed = io.BytesIO()
    picture.save(packed, "PNG", optimize=True)
    return base64.b64encode(packed.getvalue()).decode()


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Keep what the cells say and show; drop what differs from run to run."""
    own = notebook.metadata.get("within_epsilon", {})
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}, "within_epsilon": own}
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = merge_streams(cell.outputs)
        for output in cell.get("outputs", []):
            # A widget's model lives in the kernel that made it; pages show the HTML beside it.
            data = output.get("data", {})
            data.pop("application/vnd.jupyter.widget-view+json", None)
            if "image/png" in data:
                data["image/png"] = lighter(data["image/png"])


def run(path: Path) -> bool:
    """Run one chapter and write it back; return whether it went well."""
    notebook = nbformat.read(path, as_version=4)
    missing = missing_data(notebook)
    if missing:
        print(f"{path.name}: left alone, cannot get {', '.join(missing)}")
        return True
    folder = {"metadata": {"path": str(CHAPTERS)}}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder)
    begin = time.perf_counter()
    try:
        client.execute()
    except CellExecutionError as error:
        print(f"{path.name}: failed, left as it was\n{error}")
        return False
    normalise(notebook)
    nbformat.write(notebook, path)
    print(f"{path.name}: {time.perf_counter() - begin:.0f} s")
    return True


def main() -> None:
    """Run the chapters named on the command line, or all of them."""
    # Progress bars are for people who wait; in committed outputs they would be noise.
    os.environ["TQDM_DISABLE"] = "1"
    # As in the tests, so that both sum in the same order.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    paths = [Path(name) for name in sys.argv[1:]] or sorted(CHAPTERS.glob("*.ipynb"))
    failures = [path.name for path in paths if not run(path)]
    if failures:
        sys.exit(f"Failed: {', '.join(failures)}")


if __name__ == "__main__":
    main()
