"""``python -m tclap`` is the command ``tclap``."""

from tclap.cli import main

if __name__ == "__main__":
    main()
