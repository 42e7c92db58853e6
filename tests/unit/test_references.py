"""The references in `docs` are what the code says."""

from events.contract import reference
from workers import configuration


def test_the_configuration_reference_is_what_the_settings_say() -> None:
    told = "run `python -m workers.configuration`"
    assert configuration.PATH.read_text() == configuration.document(), told


def test_the_event_reference_is_what_the_models_say() -> None:
    told = "run `python -m events.contract.reference`"
    assert reference.PATH.read_text() == reference.document(), told
