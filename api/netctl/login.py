"""netctl login: a token for a netmaster behind an authenticating proxy."""

import json
import os
from pathlib import Path

import click

from netfabric.api.netctl.client import Netmaster, RefusedError
from netfabric.fabric.errors import InvalidError


@click.command("login")
@click.pass_obj
def login(netmaster: Netmaster) -> None:
    """Log in at an https proxy, and keep its token in ~/.netctl/config.json."""
    if not netmaster.url.startswith("https:"):
        raise InvalidError("login requires a https auth_proxy URL", "give --netmaster https://…")
    username = click.prompt("Username", prompt_suffix=": ")
    password = click.prompt("Password", prompt_suffix=": ", hide_input=True)
    body = {"username": username, "password": password}
    try:
        answer = Netmaster(netmaster.url, netmaster.insecure).call(
            "POST", "/api/v1/auth_proxy/login/", body
        )
    except RefusedError as error:
        if error.status == 401:
            raise RefusedError(401, "Login failed: Bad username or password.") from None
        raise
    keep_token(str(answer["token"]))
    click.echo("Login succeeded.")


def keep_token(token: str) -> None:
    """Write the token so that only its owner can read it, never half."""
    folder = Path.home() / ".netctl"
    folder.mkdir(mode=0o700, exist_ok=True)
    fresh = folder / "config.json.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"token": token}, file)
    fresh.replace(folder / "config.json")
