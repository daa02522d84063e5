"""The command ``mnistnet``: its subcommands, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, NoReturn

import typer

from mnistnet import __version__
from mnistnet.cli.console import warn
from mnistnet.cli.signals import PIPE_CLOSED, end_in_order
from mnistnet.errors import MnistnetError

INTERRUPTED = 130
OUT_OF_MEMORY = "out of memory; lower --batch-size, or use --limit"
COMMANDS = (
    *("train", "run", "evaluate", "info", "bench"),
    *("export", "import", "verify", "reconstruct", "data"),
)
"""In the order of ``--help``."""


def command_line(wanted: str | None = None) -> typer.Typer:
    """The command line, with the one command that is wanted; with all of them where that is not one.

    Typer looks at every parameter of every command there is, and each command imports what it needs: with all
    of them ``mnistnet run`` takes a tenth longer.
    """
    app = typer.Typer(
        name="mnistnet",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(invoke_without_command=True)(_mnistnet)
    for name in (wanted,) if wanted in COMMANDS else COMMANDS:
        _add(app, name)
    return app


def _add(app: typer.Typer, name: str) -> None:
    match name:
        case "train":
            from mnistnet.cli.train import train

            app.command(context_settings={"auto_envvar_prefix": "MNISTNET"})(train)
        case "run":
            from mnistnet.cli.run import run

            app.command()(run)
        case "evaluate":
            from mnistnet.cli.evaluate import evaluate

            app.command()(evaluate)
        case "info":
            from mnistnet.cli.info import info

            app.command()(info)
        case "bench":
            from mnistnet.cli.bench import bench

            app.command()(bench)
        case "export":
            from mnistnet.cli.export import export

            app.command()(export)
        case "data":
            from mnistnet.cli.data import data

            app.add_typer(data)
        case "import":
            from mnistnet.cli.import_model import import_model

            app.command("import")(import_model)
        case "verify":
            from mnistnet.cli.verify import verify

            app.command()(verify)
        case "reconstruct":
            from mnistnet.cli.reconstruct import reconstruct

            app.command()(reconstruct)
        case _:
            raise ValueError(name)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mnistnet {__version__}")
        raise typer.Exit


def _mnistnet(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Train a small image classifier on a CPU in seconds, read any picture, ship it as ONNX.

    Start with: mnistnet train, then mnistnet run ckpt picture.png
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    end_in_order()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        # a terminal that cannot show a character shows a substitute; it is no reason to fail
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        wanted = sys.argv[1] if len(sys.argv) > 1 else None
        code = command_line(wanted)(standalone_mode=False) or 0
        if code == INTERRUPTED:  # what Typer makes of Ctrl-C
            _leave("interrupted", code)
        sys.stdout.flush()
    except SystemExit as stop:
        # a training that was stopped has said so; 1 is Typer's for a reader that stopped early
        code = 0 if stop.code == 1 else stop.code
        if stop.code in (1, PIPE_CLOSED):
            _ignore_stdout()
    except MnistnetError as error:
        _leave(str(error), error.exit_code)
    except MemoryError:
        _leave(OUT_OF_MEMORY, 1)
    except BrokenPipeError:
        _ignore_stdout()
        code = 0
    except KeyboardInterrupt:
        _leave("interrupted", INTERRUPTED)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            _leave(OUT_OF_MEMORY, 1)
        _leave(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        # a wrong flag, as Typer's parser found it
        _leave(f"{error.format_message()} (see --help)", getattr(error, "exit_code", 2))
    sys.exit(code)


def _leave(message: str, code: int) -> NoReturn:
    warn(message)
    sys.exit(code)


def _ignore_stdout() -> None:
    """Who reads our output (such as head) has seen enough: end quietly, also when Python flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
