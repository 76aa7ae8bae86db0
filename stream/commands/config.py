"""Show, check or document the settings.

  earlybird config show     the effective settings, secrets hidden
  earlybird config check    everything that `run` would refuse; contacts no server
  earlybird config table    documentation of all settings, in Markdown

Settings come from EARLYBIRD_... variables and, with lower precedence, from a TOML file: `kafka.group_protocol` is
EARLYBIRD_KAFKA__GROUP_PROTOCOL or `group_protocol` under `[kafka]`. For secrets, a name ending in _FILE (_file) is the
path of a file that holds the value.
"""

import argparse
import json

from earlybird.stream.config import settings as settings_module
from earlybird.stream.config.report import effective, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb and the settings file."""
    parser.add_argument("verb", choices=["show", "check", "table"], metavar="{show,check,table}")
    settings_module.add_config_option(parser)
    parser.add_argument("--json", action="store_true", help="show: one JSON object")


def run(args: argparse.Namespace) -> int:
    """Run the verb; `check` fails by raising SettingsError or ConfigError."""
    if args.verb == "table":
        print(table(settings_module.Settings))
        return 0
    if args.verb == "check":
        return _check(args)
    shown = effective(settings_module.load(args.config))
    if args.json:
        print(json.dumps(shown))
        return 0
    width = max(map(len, shown))
    for name, value in shown.items():
        print(f"{name:<{width}}  {value if isinstance(value, str) else json.dumps(value)}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from earlybird.stream.startup_check import check, port_in_use

    settings, faults = settings_module.examined(args.config)
    check(settings, faults, model=True)
    print("settings: ok")
    if port_in_use(settings):
        http = settings.http
        print(f"note: {http.host}:{http.port} is in use now; a worker beside the one there needs another http.port")
    return 0
