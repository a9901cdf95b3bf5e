"""The same tables read by click: help, suggestions, completion and every complaint about a command line."""

from __future__ import annotations

from typing import Any

import click

from obuild import __version__, cli
from obuild.cli.option import Argument, Command, Option, converted, unset
from obuild.errors import UsageError, nearest

__all__ = ["parse"]


class _Group(click.Group):
    """The program: commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in cli.COMMANDS if not cli.find_command(name).hidden]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in cli.COMMANDS:
            return None
        return _command(name, cli.find_command(name))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        if args and args[0] not in cli.COMMANDS and not args[0].startswith("-"):
            raise UsageError(
                f'unknown command "{args[0]}"', hint=nearest(args[0], cli.COMMANDS) or "obuild --help lists them"
            )
        return super().resolve_command(ctx, args)


class _Text(click.ParamType[Any]):
    """Text made into a value by the option's own function."""

    def __init__(self, option: Option) -> None:
        self.name = option.metavar or option.name.upper()
        self._option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return converted(self._option, value) if isinstance(value, str) else value


def parse(words: Any) -> int:
    """Read the words with click and run the command; its exit status. Raises `UsageError`."""
    program = _Group(
        "obuild", help="Run declarative build specs step by step in containers.", context_settings=_CONTEXT
    )
    program = click.version_option(__version__, "-V", "--version", prog_name="obuild")(program)
    try:
        status = program.main(list(words), prog_name="obuild", standalone_mode=False)
    except click.NoSuchOption as error:
        # click has already looked for near names.
        hint = f'did you mean "{error.possibilities[0]}"?' if error.possibilities else ""
        raise UsageError(f'no such option "{error.option_name}"', hint=hint) from None
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        place = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "obuild"
        message = error.format_message().rstrip(".").replace("'", '"')
        raise UsageError(message[:1].lower() + message[1:], hint=f"{place} --help") from None
    except click.Abort:
        return 130
    return status if isinstance(status, int) else 0


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "auto_envvar_prefix": None}


def _command(name: str, command: Command) -> click.Command:
    params: list[click.Parameter] = [_argument(argument) for argument in command.arguments]
    params += [_option(option) for option in command.options]
    return click.Command(name, callback=command.function, params=params, help=command.help, hidden=command.hidden)


def _option(option: Option) -> click.Option:
    settings: dict[str, Any] = {"help": option.help, "required": option.required}
    if option.convert is None:
        return click.Option([*option.flags, option.name], is_flag=True, default=False, **settings)
    if option.metavar:
        settings["metavar"] = option.metavar
    if option.variable:
        settings |= {"envvar": option.variable, "show_envvar": True}
    kind: click.ParamType[Any] = click.Choice(option.choices) if option.choices else _Text(option)
    default = None if option.many else unset(option)
    return click.Option([*option.flags, option.name], type=kind, multiple=option.many, default=default, **settings)


def _argument(argument: Argument) -> click.Argument:
    many = argument.count in ("*", "+")
    return click.Argument(
        [argument.name],
        nargs=-1 if many else 1,
        required=argument.count in (1, "+"),
        default=None if many else argument.default,
    )
