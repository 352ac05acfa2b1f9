"""``python -m autotrain``: the same as the command ``autotrain``."""

from autotrain.cli.main import main

if __name__ == "__main__":
    main()
