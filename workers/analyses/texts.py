"""Free text of results (summaries, drafts): under the vault at rest, sealed on its way out.

It is a model's own words about a mail, and tells what stands in the mail. So it lies readable
nowhere: not in the store, not on the stream.
"""

import json
from collections.abc import Mapping

from sqlalchemy import Connection

from events.sealing import seal_text
from store.analyses import text_purpose
from store.vault import AccountVault
from workers.app import App


def stored(
    app: App, connection: Connection, account: str, request_id: str, texts: Mapping[str, str]
) -> bytes | None:
    """The texts as they lie in the store; `None` where there are none."""
    if not texts:
        return None
    return encrypted(app.vault.of(connection, account, app.effects.now_ms()), request_id, texts)


def encrypted(vault: AccountVault, request_id: str, texts: Mapping[str, str]) -> bytes:
    """The texts as they lie in the store, with the account's data key in hand."""
    return vault.encrypt(text_purpose(request_id), _json(texts))


def opened(
    app: App, connection: Connection, account: str, request_id: str, text: bytes
) -> dict[str, str]:
    """What `stored` made. Raises `DoesNotOpen` or `MasterKeyMissing`."""
    found: dict[str, str] = json.loads(
        app.vault.decrypt(connection, account, text_purpose(request_id), text)
    )
    return found


def sealed(app: App, account: str, request_id: str, texts: Mapping[str, str]) -> str | None:
    """The texts sealed to the subscriber; `None` where there are none, or no subscriber's key."""
    subscriber = app.settings.subscriber_public
    if not texts or subscriber is None:
        return None
    return seal_text(_json(texts), subscriber, account=account, request_id=request_id)


def _json(texts: Mapping[str, str]) -> bytes:
    return json.dumps(texts, ensure_ascii=False).encode()
