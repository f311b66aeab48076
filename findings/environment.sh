# python_with PACKAGE==VERSION ... < program
# Installs the packages in an environment of their own, runs the program there, leaves nothing.
python_with() (
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
    "$folder/bin/python" -W ignore -
)
