"""`python -m within_epsilon` is the command `within-epsilon`."""

from within_epsilon.commands import main

if __name__ == "__main__":
    main(prog_name="within-epsilon")
