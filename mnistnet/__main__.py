"""``python -m mnistnet``."""

from mnistnet.cli import command

if __name__ == "__main__":
    command()
