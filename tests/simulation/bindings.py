"""What is stored encrypted opens where it belongs alone: a moved row is worth nothing."""

from collections.abc import Callable
from typing import Any

from events import Provider
from store.analyses import input_purpose
from store.masterkeys import DoesNotOpen
from store.vault import StoredKey


class Bindings:
    """Tries what was just stored under other names than its own."""

    def __init__(self, oracle: Any) -> None:
        self._oracle = oracle

    def key(self, row: Any, vault: Any) -> None:
        """A key was stored: it is the one that was given, and no other account's or id's."""
        (stored,) = self._oracle.rows(
            "SELECT master_key_id, wrapped_key, ciphertext FROM provider_keys WHERE key_id = ?",
            row["key_id"],
        )
        account, provider, key_id = row["account_id"], row["provider"], row["key_id"]
        other = next(one.value for one in Provider if one != provider)

        def opened(account: str, provider: str, key_id: str) -> Any:
            return vault.open_key(
                StoredKey(*stored), account=account, provider=provider, key_id=key_id
            )

        self._only_here(
            f"the key {key_id}",
            lambda: opened(account, provider, key_id),
            self._oracle.secrets[key_id, row["revision"]],
            lambda: opened(f"{account}-else", provider, key_id),
            lambda: opened(account, other, key_id),
            lambda: opened(account, provider, f"{key_id}-else"),
        )

    def input(self, account: str, request: str, vault: Any) -> None:
        """A request was stored: what it is about opens for no other one, and no other account."""
        ((content,),) = self._oracle.rows(
            "SELECT input FROM analyses WHERE account_id = ? AND request_id = ?", account, request
        )
        others = self._oracle.rows("SELECT scope FROM data_keys WHERE scope != ?", account)
        with self._oracle.outside.store.read() as connection:

            def opened(scope: str, purpose: str) -> Any:
                return vault.decrypt(connection, scope, purpose, content) and True

            self._only_here(
                f"the input of {request}",
                lambda: opened(account, input_purpose(request)),
                True,
                lambda: opened(account, input_purpose(f"{request}-else")),
                *(
                    lambda scope=row["scope"]: opened(scope, input_purpose(request))
                    for row in others
                ),
            )

    def _only_here(
        self, what: str, here: Callable[[], Any], expected: Any, *elsewhere: Callable[[], Any]
    ) -> None:
        if here() != expected:
            self._oracle.broken(f"5: {what} opens to something else")
        for opens in elsewhere:
            try:
                opens()
            except DoesNotOpen:
                continue
            self._oracle.broken(f"5: {what} opens under another name")
