"""`BYOK_MASTER_KEYS`: keys that are held here, and keys that KMS holds."""

from pathlib import Path

import pytest

from tests.road import fake_key
from tests.unit.workers.standins import stand_in_settings
from workers.settings import ConfigurationError, KmsName

ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
LOCAL = bytes([1]) * 32


@pytest.mark.parametrize(
    "name",
    [
        ARN,
        ARN.replace("arn:aws:", "arn:aws-us-gov:"),
        "arn:aws:kms:eu-west-1:111122223333:alias/byok/master-1",
        "alias/byok",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "mrk-1234abcd12ab34cd56ef1234567890ab",
    ],
)
def test_a_kms_key_stands_beside_a_local_one_in_its_place(tmp_path: Path, name: str) -> None:
    settings = stand_in_settings(tmp_path, master_keys=f"k1:kms:{name}, {fake_key(1)}")
    assert settings.master_key_ring == {"k1": KmsName(name), "t1": LOCAL}
    assert list(settings.master_key_ring) == ["k1", "t1"]
    assert isinstance(settings.master_key_ring["k1"], KmsName)


@pytest.mark.parametrize(
    "entry",
    [
        "k1:kms:",
        f":kms:{ARN}",
        f"k.1:kms:{ARN}",
        "k1:kms:http://hunter2.invalid",
        f"k1:kms:{ARN}/hunter2 x",
        "k1:KMS:alias/hunter2",
    ],
)
def test_a_wrong_entry_is_refused_and_not_shown(tmp_path: Path, entry: str) -> None:
    settings = stand_in_settings(tmp_path, master_keys=entry)
    with pytest.raises(ConfigurationError, match=r"^BYOK_MASTER_KEYS: ") as caught:
        settings.master_key_ring  # noqa: B018 -- reading it is what is tested
    assert "hunter2" not in str(caught.value)


def test_two_keys_of_one_id_are_refused(tmp_path: Path) -> None:
    settings = stand_in_settings(tmp_path, master_keys=f"t1:kms:{ARN},{fake_key(1)}")
    with pytest.raises(ConfigurationError, match="two keys of one id"):
        settings.master_key_ring  # noqa: B018 -- as above
