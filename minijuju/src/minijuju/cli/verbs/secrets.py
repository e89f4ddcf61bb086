"""User secrets, and looking at all secrets."""

from __future__ import annotations

from typing import Any

from minijuju.cli import argv, context
from minijuju.model import formats


def _content(ctx: context.Context, words: list[str]) -> dict[str, str]:
    """Keys and values of ``--file`` and of ``key=value`` words; ``key#file=path`` reads a file."""
    values: dict[str, str] = {}
    if ctx.flags.given("file"):
        read = context.read_yaml(ctx.flags.text("file"))
        values = {key: context.scalar(value) for key, value in read.items()}
    for key, value in argv.pairs(words).items():
        name, mark, kind = key.partition("#")
        values[name if kind == "file" else name + mark + kind] = (
            context.read_file(value) if kind == "file" else value
        )
    return values


def add_secret(ctx: context.Context) -> int:
    """``add-secret NAME KEY=VALUE...``: prints the URI."""
    ctx.at_least(1, "secret name")
    name, *words = ctx.words
    print(
        ctx.call("add-secret", name=name, data=_content(ctx, words), info=ctx.flags.text("info"))
    )
    return 0


def update_secret(ctx: context.Context) -> int:
    """``update-secret NAME|URI [KEY=VALUE...]``."""
    ctx.at_least(1, "secret URI")
    secret, *words = ctx.words
    ctx.call(
        "update-secret",
        secret=secret,
        data=_content(ctx, words) or None,
        info=ctx.flags.text("info") if ctx.flags.given("info") else None,
        name=ctx.flags.text("name"),
        auto_prune=ctx.flags.on("auto-prune") if ctx.flags.given("auto-prune") else None,
    )
    return 0


def grant_secret(ctx: context.Context) -> int:
    """``grant-secret NAME|URI APPLICATION[,APPLICATION...]`` and ``revoke-secret``."""
    ctx.at_least(2, "secret and application")
    ctx.at_most(2)
    applications = [name for name in ctx.words[1].split(",") if name]
    ctx.call(ctx.verb, secret=ctx.words[0], applications=applications)
    return 0


def remove_secret(ctx: context.Context) -> int:
    """``remove-secret NAME|URI [--revision N]``."""
    revision = ctx.flags.integer("revision", 0)
    ctx.call("remove-secret", secret=ctx.one("secret URI"), revision=revision or None)
    return 0


def secrets(ctx: context.Context) -> int:
    """``secrets``."""
    found: dict[str, Any] = ctx.view("secrets", owner=ctx.flags.text("owner"))
    rows = [
        [
            key,
            one.get("name") or one.get("label") or "-",
            one["owner"],
            one.get("rotation", "never"),
            str(one["revision"]),
            one["updated"],
        ]
        for key, one in found.items()
    ]
    header = ["ID", "Name", "Owner", "Rotation", "Revision", "Last updated"]
    return ctx.emit(found, formats.table(header, rows, right=(4,)) if rows else "", "tabular")


def show_secret(ctx: context.Context) -> int:
    """``show-secret NAME|URI [--reveal] [--revisions] [--revision N]``."""
    return ctx.emit(
        ctx.view(
            "show_secret",
            secret=ctx.one("secret URI"),
            reveal=ctx.flags.on("reveal"),
            revisions=ctx.flags.on("revisions"),
            revision=ctx.flags.integer("revision", 0) or None,
        )
    )
