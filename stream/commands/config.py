"""Settings: `show` prints the effective ones with secrets hidden, `check` validates them, `table` documents them all
in Markdown.

They come from EARLYBIRD_... variables and, under those, from a TOML file: `kafka.group_protocol` is
EARLYBIRD_KAFKA__GROUP_PROTOCOL or `group_protocol` under `[kafka]`. A name ending in _FILE (_file) is read from that
file, for secrets.
"""

import argparse
import json

from stream import settings as settings_module
from stream.settings_report import effective, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One verb and the file."""
    parser.add_argument("verb", choices=["show", "check", "table"])
    settings_module.add_config_option(parser)
    parser.add_argument("--json", action="store_true", help="show: one JSON object")


def run(args: argparse.Namespace) -> int:
    """Raises SettingsError and ConfigError, which is how `check` fails."""
    if args.verb == "table":
        print(table(settings_module.Settings))
        return 0
    settings = settings_module.load(args.config)
    if args.verb == "check":
        from stream.settings_check import check

        check(settings)
        print("settings: ok")
        return 0
    shown = effective(settings)
    if args.json:
        print(json.dumps(shown))
        return 0
    width = max(map(len, shown))
    for name, value in shown.items():
        print(f"{name:<{width}}  {value if isinstance(value, str) else json.dumps(value)}")
    return 0
