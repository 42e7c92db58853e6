"""What looks like a key by chance: base64url has the letters of a key's prefix."""

from events.redaction import refuse_readable_keys


def test_a_signature_or_a_sealed_value_with_a_keys_prefix_in_it_is_no_readable_key() -> None:
    by_chance = "Zm9vYmFy" * 4 + "sk-abcdefghijklmnopqrstuvwxyz" + "A" * 25
    refuse_readable_keys(
        {"signature": f"ed25519.{by_chance}", "data": {"sealed_key": f"v1.s1.{by_chance}"}}
    )
