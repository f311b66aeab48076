#!/bin/sh
# A radius that is infinite leaves a kernel as the string "inf": in a widget's state, and in JSON that
# a cell displays. The page that ipywidgets.embed makes of the same widget has Infinity instead, which
# is not JSON, in the one block that all widgets of the page are read from: none of them is shown.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import json
import re
from importlib.metadata import version

import nbclient
import nbformat

CELL = """
import math
import ipywidgets
from IPython.display import display
from ipywidgets.embed import embed_snippet

radius, accuracy = ipywidgets.FloatText(math.inf), ipywidgets.FloatText(0.5)
display({"application/json": {"radius": math.inf}}, raw=True)
display({"text/html": embed_snippet([accuracy])}, raw=True)
"""
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
nbclient.NotebookClient(notebook, store_widget_state=True).execute()
state = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
stored = [one["state"]["value"] for one in state if one["model_name"] == "FloatTextModel"]
shown = [output.data for output in notebook.cells[0].outputs if output.output_type == "display_data"]
(sent,) = [data["application/json"]["radius"] for data in shown if "application/json" in data]
(page,) = [data["text/html"] for data in shown if "text/html" in data]
block = re.search(r'widget-state\+json">(.*?)</script>', page, re.DOTALL)[1]


def refuse(name):
    raise ValueError(f"{name} is not JSON")


try:
    json.loads(block, parse_constant=refuse)
    said = "JSON"
except ValueError as error:
    said = str(error)
print(f"jupyter-client {version('jupyter-client')}: an infinite number in the stored state is {stored[0]!r}, ", end="")
print(f"in displayed JSON {sent!r}; ipywidgets {version('ipywidgets')}, the page's block: {said}")
assert stored == ["inf", 0.5] and sent == "inf" and said == "Infinity is not JSON"
PY
python_with nbclient==0.11.0 ipykernel==7.4.0 jupyter-client==8.10.0 ipywidgets==8.1.9 < "$program"
