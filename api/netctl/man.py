"""The manual page netctl(1), written from the commands themselves."""

from collections.abc import Iterator

import click

from netfabric.api.version import version_info

STATUSES = (
    (0, "Done."),
    (1, "Usage: an unknown command or option, or an argument is missing."),
    (2, "netmaster understood and refused."),
    (3, "Invalid: refused before anything was sent."),
    (4, "netmaster cannot be reached."),
)
DESCRIPTION = """
netctl is the command line of a netfabric. It speaks REST to a netmaster; any of several will do. What went wrong is one line on standard
error: the object, the cause, and what to do about it.
"""
SECOND_NAMES = "Second names: list for ls, delete for rm, net for network, ep for endpoint."


def manual(root: click.Group) -> str:
    """Return the page of a group of commands, in roff's man macros."""
    return "\n".join(_page(root)) + "\n"


def _page(root: click.Group) -> Iterator[str]:
    context = click.Context(root, info_name="netctl")
    version = version_info()["Version"]
    yield f'.TH NETCTL 1 "" "netfabric {escaped(str(version))}" "netfabric"'
    yield ".SH NAME"
    yield escaped("netctl - command a netfabric: networks, peers, policies, routes")
    yield ".SH SYNOPSIS"
    yield rf".B netctl\fR {escaped('[OPTIONS] COMMAND [ARGUMENTS]')}"
    yield ".SH DESCRIPTION"
    yield from _text(DESCRIPTION)
    yield ".SH OPTIONS"
    yield from _options(root, context)
    yield ".SH COMMANDS"
    yield from _text(SECOND_NAMES)
    yield from _commands(root, context)
    yield ".SH EXIT STATUS"
    for status, means in STATUSES:
        yield from _item(str(status), means)
    yield ".SH FILES"
    yield from _item("~/.netctl/config.json", "The token that netctl login keeps.")


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    """Yield every command, those of groups by their whole name."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
            continue
        yield f".SS {escaped(inner.command_path)}"
        usage = " ".join(command.collect_usage_pieces(inner))
        yield f".B {escaped(inner.command_path)}"
        yield escaped(usage)
        yield ".PP"
        yield from _text(command.help or "")
        yield from _options(command, inner)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in parameter.opts:
            yield from _item(*record)


def _item(term: str, about: str) -> Iterator[str]:
    yield ".TP"
    yield rf"\fB{escaped(term)}\fR"
    yield escaped(" ".join(about.split()) or "-")


def _text(text: str) -> Iterator[str]:
    """Yield paragraphs; \b, click's mark of lines to be kept, keeps them."""
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield ".PP"
        lines = [line.strip() for line in paragraph.splitlines() if line.strip()]
        if lines and lines[0] == "\b":
            yield from (".nf", *map(escaped, lines[1:]), ".fi")
        else:
            yield escaped(" ".join(lines))


def escaped(text: str) -> str:
    """Return text that roff prints as it is: backslashes, hyphens, dots and quotes at the start, other alphabets."""
    plain = "".join(_ESCAPES.get(c, c if c < "\x7f" else f"\\[u{ord(c):04X}]") for c in text)
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


_ESCAPES = {"\\": r"\e", "-": r"\-"}
