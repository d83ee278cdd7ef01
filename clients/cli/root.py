"""The command `tailrace`: finds a command's file, and turns failures into one line and an exit code."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from tailrace.clients.cli.failures import (
    FAILED,
    INTERRUPTED,
    NOT_AUTHORISED,
    NOT_FOUND,
    UNREACHABLE,
    USAGE,
    say,
)
from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.connection import UnreachableError
from tailrace.core import errors
from tailrace.core.config import ConfigError
from tailrace.core.errors import KafkaError, ProtocolError
from tailrace.shm.region import ShmError

COMMANDS = (
    *("start", "stop", "restart", "status", "broker", "doctor", "config"),
    *("topic", "produce", "consume", "group", "lag", "log"),
)

_EXIT_CODES = {
    errors.UNKNOWN_TOPIC_OR_PARTITION: NOT_FOUND,
    errors.UNKNOWN_TOPIC_ID: NOT_FOUND,
    errors.GROUP_ID_NOT_FOUND: NOT_FOUND,
    errors.TOPIC_AUTHORIZATION_FAILED: NOT_AUTHORISED,
    errors.GROUP_AUTHORIZATION_FAILED: NOT_AUTHORISED,
    errors.CLUSTER_AUTHORIZATION_FAILED: NOT_AUTHORISED,
    errors.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: NOT_AUTHORISED,
    errors.SASL_AUTHENTICATION_FAILED: NOT_AUTHORISED,
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order of a first visit."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's file."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(f"tailrace.clients.cli.{cmd_name}_command").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, which would look for near names among commands that were imported: there are none."""
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tailrace")
def cli() -> None:
    """Tailrace: a Kafka-protocol event log for one host.

    Exit status: 0 done, 1 failed, 2 not understood, 3 no broker reached, 4 not authorised, 5 not found.

    Shells complete commands and options after, in bash (or zsh_source, fish_source for the others):

    \b
        eval "$(_TAILRACE_COMPLETE=bash_source tailrace)"

    \b
    Example: tailrace start --data ./data
    """


def run(arguments: Sequence[str], hooks: Hooks) -> NoReturn:
    """Run one command line and end the process with its exit code."""
    raise SystemExit(exit_code(arguments, hooks))


def exit_code(arguments: Sequence[str], hooks: Hooks) -> int:
    """Run one command line; its exit code."""
    try:
        result = cli.main(args=list(arguments), prog_name="tailrace", obj=hooks, standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except SystemExit as ended:  # by `fail`, and by click when whoever read our output is gone
        return ended.code if isinstance(ended.code, int) else FAILED
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "tailrace"
        say(f"{error.format_message()} (see {path} --help)")
        return USAGE
    except click.ClickException as error:
        say(error.format_message())
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read our output is gone; the interpreter's own flush at exit must not fail on it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except UnreachableError as error:
        is_nobody = isinstance(error.__cause__, ConnectionRefusedError | FileNotFoundError)
        say(f"{error}: start a broker there, or name another with -b" if is_nobody else str(error))
        return UNREACHABLE
    except KafkaError as error:
        say(str(error))
        return _EXIT_CODES.get(error.code, FAILED)
    except (ConfigError, ProtocolError, ShmError) as error:
        say(str(error))
        return FAILED
    except OSError as error:
        what = error.strerror or str(error)
        say(what if error.filename is None else f"{error.filename}: {what}")
        return FAILED
