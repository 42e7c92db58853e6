"""`byok usage rebuild|audit|reprice`: the books behind the usage card."""

from typing import Annotated, Any

import typer

from store import books
from store.accounts import NANO
from store.books import Difference
from store.usage import usd
from workers.cli.console import AsJson, emit_json, open_app, out, refuse, show, table
from workers.pricing import PRICE_VERSION

SHOWN = 20
"""How many differences are shown one by one; with --json all are."""


def rebuild(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare, and fail on a difference.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild rollups, spending and per-key counts from the ledger, beside the live ones.

    Tells what differs and puts it right. Example: `byok usage rebuild --check`.
    """
    with open_app() as app:
        if check:
            with app.database.snapshot() as connection:
                found = books.differences(connection)
        else:
            with app.database.write() as connection:
                found = books.rebuild(connection)
    if as_json:
        emit_json(
            {
                "ok": not found,
                "applied": bool(found) and not check,
                "differences": [_described(difference) for difference in found],
            }
        )
    elif found:
        made = table("What differs from the ledger", "what", "of", "stands at", "ledger")
        for difference in found[:SHOWN]:
            key, live, rebuilt = (
                " ".join(f"{name} {value}" for name, value in part.items())
                for part in (difference.key, difference.live, difference.rebuilt)
            )
            made.add_row(difference.what.replace("_", " "), key, live, rebuilt)
        show(made)
    if not found:
        if not as_json:
            out.print("What is added up is what the ledger says.", highlight=False)
    elif check:
        refuse(
            f"{len(found):,} rows of what is added up are not what the ledger says: "
            "run `byok usage rebuild`."
        )
    elif not as_json:
        out.print(f"{len(found):,} rows were put right.", highlight=False)


def _described(difference: Difference) -> dict[str, Any]:
    return {
        "what": difference.what,
        "key": dict(difference.key),
        "live": dict(difference.live),
        "ledger": dict(difference.rebuilt),
    }


def audit(*, as_json: AsJson = False) -> None:
    """Hold requests, attempts, ledger, credits, budgets, outbox and counts against each other.

    Against the provider sandbox, its bill too. Lists what does not match, and fails where something
    does not. Example: `byok usage audit`.
    """
    # With what it needs of the sandbox it takes a moment to load.
    from workers.usage.bill import audit_all  # noqa: PLC0415

    with open_app() as app:
        found = audit_all(app)
    if as_json:
        emit_json(
            {
                "ok": not found.findings,
                "checks": [
                    {
                        "check": check,
                        "compared": compared,
                        "findings": sum(one.check == check for one in found.findings),
                    }
                    for check, compared in found.compared.items()
                ],
                "findings": [
                    {"check": one.check, "about": one.about, "sentence": one.sentence}
                    for one in found.findings
                ],
                "unknown_attempts": found.unknown_attempts,
            }
        )
    else:
        made = table("Audit", "check", ">compared", ">findings")
        for check, compared in found.compared.items():
            count = sum(one.check == check for one in found.findings)
            made.add_row(check, f"{compared:,}", str(count))
        show(made)
        if found.unknown_attempts:
            out.print(
                f"{found.unknown_attempts:,} attempts whose answer was lost may have been billed.",
                highlight=False,
            )
        for one in found.findings[:SHOWN]:
            out.print(f"{one.check}: {one.about} {one.sentence}", highlight=False, soft_wrap=True)
    if found.findings:
        refuse(f"{len(found.findings):,} things do not match.")


def reprice(
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Book the differences instead of only showing them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Price what is on the ledger by this version's price table, and show what differs.

    The old figures stay: a difference is booked as a row of its own. Example: `byok usage reprice`.
    """
    # The price table takes a moment to load, and the other commands do without.
    from workers.usage.reprice import reprice as price_anew  # noqa: PLC0415

    with open_app() as app:
        found = price_anew(app, apply=apply)
    changes = sorted(found.changes.items())
    difference = sum(change.new_nano_usd - change.old_nano_usd for _, change in changes)
    if as_json:
        emit_json(
            {
                "price_version": PRICE_VERSION,
                "looked_at": found.looked_at,
                "applied": apply,
                "difference_usd": str(usd(difference)),
                "changes": [
                    {
                        "provider": provider,
                        "model": model,
                        "calls": change.calls,
                        "first_priced": change.first_priced,
                        "old_cost_usd": str(usd(change.old_nano_usd)),
                        "new_cost_usd": str(usd(change.new_nano_usd)),
                    }
                    for (provider, model), change in changes
                ],
            }
        )
        return
    if not changes:
        out.print(f"Nothing costs another amount by {PRICE_VERSION}.", highlight=False)
        return
    made = table(f"By {PRICE_VERSION}", "model", ">calls", ">had no price", ">old", ">new")
    for (provider, model), change in changes:
        made.add_row(
            f"{model} ({provider})",
            f"{change.calls:,}",
            f"{change.first_priced:,}",
            f"${change.old_nano_usd / NANO:.6f}",
            f"${change.new_nano_usd / NANO:.6f}",
        )
    show(made)
    booked = "was booked" if apply else "is to be booked: run `byok usage reprice --apply`"
    out.print(f"A difference of ${usd(difference):.6f} {booked}.", highlight=False)
