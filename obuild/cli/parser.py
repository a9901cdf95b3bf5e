"""The same tables read by click: help, suggestions, completion and every complaint about a command line."""

from __future__ import annotations

from typing import Any

import click

from obuild import __version__, cli
from obuild.cli.option import Argument, Command, Option, converted
from obuild.errors import UsageError, nearest

__all__ = ["parse"]


class _Group(click.Group):
    """The program, or the commands behind one word of it; they are imported when they are asked for."""

    def __init__(self, prefix: str = "", **settings: Any) -> None:
        super().__init__(prefix.strip() or "obuild", **settings)
        self._prefix = prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = (name.removeprefix(self._prefix) for name in cli.COMMANDS if name.startswith(self._prefix))
        return list(dict.fromkeys(name.split()[0] for name in names))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if not self._prefix and name in cli.GROUPS:
            return _Group(f"{name} ", help=cli.GROUPS[name], context_settings=_CONTEXT)
        full = self._prefix + name
        return _command(name, cli.find_command(full)) if full in cli.COMMANDS else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            hint = nearest(args[0], known) or f"{ctx.command_path} --help lists them"
            raise UsageError(f'unknown command "{self._prefix}{args[0]}"', hint=hint)
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
    program = _Group(help="Run declarative build specs step by step in containers.", context_settings=_CONTEXT)
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
        context = getattr(error, "ctx", None)
        place = context.command_path if context else " ".join(["obuild", *_command_words(words)])
        message = error.format_message().rstrip(".").replace("'", '"')
        raise UsageError(message[:1].lower() + message[1:], hint=f"{place} --help") from None
    except click.Abort:
        return 130
    return status if isinstance(status, int) else 0


def _command_words(words: Any) -> list[str]:
    """The words that name the command, for the place to look for help."""
    return next((list(words[:depth]) for depth in (2, 1) if " ".join(words[:depth]) in cli.COMMANDS), [])


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
    # click takes a default of None for a value that was given.
    if option.default is not None and not option.many:
        settings["default"] = option.default
    return click.Option([*option.flags, option.name], type=kind, multiple=option.many, **settings)


def _argument(argument: Argument) -> click.Argument:
    many = argument.count in ("*", "+")
    return click.Argument([argument.name], nargs=-1 if many else 1, required=argument.count in (1, "+"))
