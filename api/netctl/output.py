"""How netctl prints: Contiv's tables, JSON, YAML, and bare names."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import click

Item: TypeAlias = Mapping[str, Any]
Column: TypeAlias = tuple[str, str | Callable[[Item], object]]
"""(heading, field name or function of the item)."""

PADDING = 2


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows under headings and dashes, columns padded by two blanks as Go's tabwriter does."""
    lines = [list(headings), ["-" * len(h) for h in headings]]
    lines += [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) + PADDING for column in zip(*lines, strict=True)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def cells(item: Item, columns: Sequence[Column]) -> list[object]:
    """Return one row."""
    return [
        item.get(source, "") if isinstance(source, str) else source(item) for _, source in columns
    ]


def show(
    items: Sequence[Item], columns: Sequence[Column], form: str, name: str = "", quiet: bool = False
) -> None:
    """Print a listing as `form` (table, json, yaml), or one name (the field `name`) a line."""
    if quiet:
        for item in items:
            click.echo(item.get(name, ""))
    elif form == "table":
        rows = [cells(item, columns) for item in items]
        click.echo(table([heading for heading, _ in columns], rows), nl=False)
    else:
        dump(list(items), form)


def dump(value: Any, form: str) -> None:
    """Print any JSON value as json (also for `table`) or yaml."""
    if form == "yaml":
        import yaml  # takes its time to load

        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
