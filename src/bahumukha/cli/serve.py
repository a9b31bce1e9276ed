"""`bahu serve`: everything in the browser, for the people in the house."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional
from urllib.parse import quote

import typer

from bahumukha.cli.output import note_line
from bahumukha.errors import ModelError, UsageError

if TYPE_CHECKING:
    from bahumukha.web.config import ServerConfig

EXAMPLES = """Examples:

bahu serve ~/Pictures

bahu serve ~/Pictures /media/camera --port 9000 --open

bahu serve ~/Pictures --host 0.0.0.0 --token "a long secret word"

bahu serve --out ~/painted

The API is described at /api/v1/openapi.json."""


def register(app: typer.Typer) -> None:
    """Add this group's commands to `app`."""
    app.command("serve", epilog=EXAMPLES)(serve)


def serve(
    folders: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads this one)
        typer.Argument(
            metavar="[FOLDER...]",
            help="Only pictures in these are shown; new ones are indexed. Shards (.tar), Parquet files and URLs too. "
            "[default: all indexed]",
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="0 for one that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="A secret that clients must know; needed for other addresses than this one."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="A host name under which the server is reached. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where pictures go that are made. [default: the data folder]")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="M", help="A model's name or folder. [default: the index's own]")
    ] = None,
    db: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The index file. [default: one for each user]")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="An index in a PostgreSQL database, instead of a file. [default: BAHUMUKHA_STORE, where that is set]",
        ),
    ] = None,
    open: Annotated[bool, typer.Option("--open/--no-open", help="Show the page in the browser.")] = False,
) -> None:
    """Search, ask and create in the browser, on this machine or for the whole house. Ctrl-C stops it."""
    try:
        import uvicorn

        from bahumukha.web.app import create_app
        from bahumukha.web.config import ServerConfig
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "bahumukha":
            raise
        raise ModelError(f"bahu serve needs {error.name}, of the extra [web]: pip install 'bahumukha[web]'") from error
    config = ServerConfig(
        folders=tuple(folders or ()),
        index=db,
        store=store,
        created=out,
        model=str(Path(model).resolve()) if model is not None and Path(model).is_dir() else model,
        host=host,
        port=port,
        token=token,
        names=tuple(name or ()),
    )
    app = create_app(config)
    settings = uvicorn.Config(
        app, host=host, log_level="warning", server_header=False, timeout_graceful_shutdown=3, limit_concurrency=500
    )
    with _listening(config) as listener:
        address = _address(config, listener.getsockname()[1])
        print(address, flush=True)
        if open:
            import webbrowser

            if not webbrowser.open(address):
                note_line(f"no browser was found; open {address} yourself")
        _server(settings, app).run(sockets=[listener])


def _listening(config: ServerConfig) -> Any:
    """A socket at the address. Raises UsageError where that is taken or not this machine's."""
    import socket

    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host.strip("[]"), config.port))
        listener.listen(128)  # whoever reads the address may ask at once
    except OSError as error:
        listener.close()
        raise UsageError(
            f"--host {config.host} --port {config.port}: cannot be listened at ({error.strerror or error}); "
            "take another, or --port 0 for one that is free"
        ) from error
    return listener


def _server(settings: Any, app: Any) -> Any:
    import threading

    import uvicorn

    class Server(uvicorn.Server):
        """Ends the streams of open pages when it is asked to stop; else it would wait for each to be closed.

        In a thread: a signal may come while this one holds the hub's lock, and would wait for itself.
        """

        def handle_exit(self, sig: int, frame: Any) -> None:
            services = getattr(app.state, "services", None)
            if services is not None:
                threading.Thread(target=services.hub.close, daemon=True).start()
            super().handle_exit(sig, frame)

    return Server(settings)


def _address(config: ServerConfig, port: int) -> str:
    host = f"[{config.host}]" if ":" in config.host and not config.host.startswith("[") else config.host
    return f"http://{host}:{port}/" + (f"?token={quote(config.token, safe='')}" if config.token else "")
