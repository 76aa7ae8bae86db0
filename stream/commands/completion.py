"""Print the completion script of a shell: commands, options, choices and file names.

earlybird completion bash > ~/.local/share/bash-completion/completions/earlybird
earlybird completion zsh > ~/.zfunc/_earlybird     with ~/.zfunc in fpath
"""

import argparse
import importlib
from typing import TYPE_CHECKING, cast

import shtab

from earlybird.stream.cli import COMMANDS, Command
from earlybird.stream.commands import bench

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that names the shell."""
    parser.add_argument("shell", choices=["bash", "zsh"])


def run(args: argparse.Namespace) -> int:
    """Print the script; the exit status is 0."""
    print(shtab.complete(whole_parser(), shell=args.shell))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """Return one parser of all commands; it imports the module of each."""
    parser = argparse.ArgumentParser(prog="earlybird")
    parser.add_argument("-V", "--version", action="store_true", help="name the release")
    commands = parser.add_subparsers()
    for name, about in COMMANDS.items():
        if name == "bench":
            benches = commands.add_parser(name, help=about).add_subparsers()
            for each, module in bench.MODULES.items():
                _add(benches, each, each, module)
        else:
            _add(commands, name, about, f"earlybird.stream.commands.{name}")
    return parser


def _add(commands: "Commands", name: str, about: str, module: str) -> None:
    parser = commands.add_parser(name, help=about)
    cast(Command, importlib.import_module(module)).add_arguments(parser)
    for action in parser._actions:
        metavar = str(action.metavar)
        if "FILE" in metavar or "FOLDER" in metavar:
            action.complete = shtab.FILE if "FILE" in metavar else shtab.DIRECTORY  # type: ignore[attr-defined]
