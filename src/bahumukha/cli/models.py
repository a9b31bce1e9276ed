"""`bahu models`: what models there are on this machine, and what is known about each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bahumukha.cli.output import error_line, print_json
from bahumukha.errors import ModelError

if TYPE_CHECKING:
    from bahumukha.zoo.cards import Card

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


group = typer.Typer(help="The models on this machine.", no_args_is_help=True)
"""`cli.weights` adds the commands that need PyTorch."""


def register(app: typer.Typer) -> None:
    group.command("list", epilog="Examples:\n\nbahu models list\n\nbahu models list --json")(list_models)
    group.command("show", epilog="Examples:\n\nbahu models show starter/clip\n\nbahu models show ./my-clip")(show_model)
    app.add_typer(group, name="models")


def list_models(json: Json = False) -> None:
    """List the models: those that ship, and those in your data folder (BAHUMUKHA_HOME)."""
    from bahumukha.zoo.cards import read_card
    from bahumukha.zoo.folder import available

    cards = []
    for name, folder in available().items():
        try:
            cards.append(read_card(folder, name))
        except ModelError as error:
            error_line(error)
    if json:
        for card in cards:
            print_json(_as_dict(card))
    else:
        _print_table(cards)


def show_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model, or the path of its folder.")],
    json: Json = False,
) -> None:
    """Show one model's card: what it is for, what it was made from, its licence, its scores and limits."""
    from bahumukha.zoo.cards import read_card
    from bahumukha.zoo.folder import find

    card = read_card(find(model), model)
    if json:
        print_json({**_as_dict(card), "folder": str(card.folder), "details": dict(card.details), "card": card.text})
    else:
        _print_card(card)


def _as_dict(card: Card) -> dict[str, Any]:
    return {
        "name": card.name,
        "kind": card.kind,
        "bytes": card.size,
        "licence": card.licence,
        "summary": card.summary,
    }


def _print_table(cards: list[Card]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "kind", "size", "licence", "summary", box=box.SIMPLE_HEAD)
    for card in cards:
        cells = (card.name, card.kind, megabytes(card.size), card.licence, card.summary)
        table.add_row(*map(Text, cells))
    Console().print(table)


def _print_card(card: Card) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(highlight=False, markup=False, emoji=False)
    facts = {
        "name": card.name,
        "kind": card.kind,
        "size": megabytes(card.size),
        "licence": card.licence,
        **({"summary": card.summary} if card.summary else {}),
        "folder": str(card.folder),
        **card.details,
    }
    width = max(map(len, facts))
    for key, value in facts.items():
        console.print(f"{key:<{width}}  {value}", soft_wrap=True)
    if card.text:
        console.print()
        console.print(Markdown(card.text))


def megabytes(size: int) -> str:
    """Bytes as a person reads them: `12.3 MB`."""
    return f"{size / 1e6:.1f} MB"
