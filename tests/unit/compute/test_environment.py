from __future__ import annotations

import pytest

from poolwright.compute.environment import app_environment, input_file_name, split_arguments
from poolwright.compute.multiaddr import location_of, sources
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, DealId, Hash32, TaskId

TASK = TaskId(Hash32(bytes([1]) * 32))
DEAL = DealId(Hash32(bytes([2]) * 32))
DATASET = Address.parse("0xABcdEFABcdEFabcdEfAbCdefabcdeFABcDEFabCD")
URL = "https://files.test/a.csv"


def test_environment_without_data_has_exactly_the_variables_that_are_always_there() -> None:
    environment = app_environment(task_id=TASK, deal_id=DEAL, index=4, bot_first=3, bot_size=2, dataset=None)
    assert environment == {
        "IEXEC_TASK_ID": "0x" + "01" * 32,
        "IEXEC_DEAL_ID": "0x" + "02" * 32,
        "IEXEC_TASK_INDEX": "4",
        "IEXEC_IN": "/iexec_in",
        "IEXEC_OUT": "/iexec_out",
        "IEXEC_BOT_SIZE": "2",
        "IEXEC_BOT_FIRST_INDEX": "3",
        "IEXEC_BOT_TASK_INDEX": "4",
        "IEXEC_DATASET_ADDRESS": "0x" + "00" * 20,
        "IEXEC_DATASET_FILENAME": "0x" + "00" * 20,
        "IEXEC_INPUT_FILES_NUMBER": "0",
    }


def test_dataset_and_input_files_are_named_as_they_lie_in_iexec_in() -> None:
    environment = app_environment(
        task_id=TASK, deal_id=DEAL, index=0, bot_first=0, bot_size=1, dataset=DATASET, input_files=[URL, "b"]
    )
    assert environment["IEXEC_DATASET_FILENAME"] == "0xabcdefabcdefabcdefabcdefabcdefabcdefabcd"
    assert environment["IEXEC_DATASET_ADDRESS"] == environment["IEXEC_DATASET_FILENAME"]
    assert environment["IEXEC_INPUT_FILES_FOLDER"] == "/iexec_in"
    assert environment["IEXEC_INPUT_FILES_NUMBER"] == "2"
    assert environment["IEXEC_INPUT_FILE_NAME_1"] == input_file_name(URL)
    assert environment["IEXEC_INPUT_FILE_NAME_2"] == input_file_name("b")


def test_input_file_name_is_the_sha256_of_the_url() -> None:
    # sha256("abc"), FIPS 180-2 appendix B.1
    expected = "0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert input_file_name("abc") == expected


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", ()),
        ("a  b", ("a", "b")),
        ("--title 'two words' \"and more\"", ("--title", "two words", "and more")),
        ("$(rm -rf /) ; echo *", ("$(rm", "-rf", "/)", ";", "echo", "*")),
    ],
)
def test_arguments_are_split_like_a_shell_does_and_run_by_none(text: str, arguments: tuple[str, ...]) -> None:
    assert split_arguments(text) == arguments


def test_quotation_that_does_not_end_is_the_requesters_error() -> None:
    with pytest.raises(InputError, match="balanced quotes"):
        split_arguments("say 'hello")


def test_multiaddr_bytes_of_a_version_0_cid_become_an_ipfs_path() -> None:
    # The empty UnixFS folder, as every IPFS node knows it.
    multihash = bytes.fromhex("122059948439065f29619ef41280cbb932be52c56d99c5966b65e0111239f098bbef")
    expected = "/ipfs/QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    assert location_of(b"\xa5\x03" + bytes([len(multihash)]) + multihash) == expected


def test_multiaddr_bytes_of_a_version_1_cid_become_an_ipfs_path() -> None:
    # raw codec, sha256 of nothing
    cid = bytes.fromhex("01551220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    expected = "/ipfs/bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
    assert location_of(b"\xa5\x03" + bytes([len(cid)]) + cid) == expected


@pytest.mark.parametrize("text", [URL, "/ipfs/QmFoo", "", "¥\x03 text"])
def test_bytes_that_are_no_multiaddr_are_text(text: str) -> None:
    assert location_of(text.encode()) == text


def test_bytes_that_are_neither_say_what_was_expected() -> None:
    with pytest.raises(InputError, match=r"0xa503ff.*register the file again"):
        location_of(b"\xa5\x03\xff\xfe")


def test_ipfs_paths_are_tried_on_each_gateway_in_order_and_urls_as_they_are() -> None:
    gateways = ("http://127.0.0.1:8080/", "http://gateway.test")
    for location in ("/ipfs/QmFoo/a", "/p2p/QmFoo/a", "ipfs://QmFoo/a"):
        assert sources(location, gateways) == (
            "http://127.0.0.1:8080/ipfs/QmFoo/a",
            "http://gateway.test/ipfs/QmFoo/a",
        )
    assert sources(URL, gateways) == (URL,)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/y", "QmFoo", "/etc/passwd"])
def test_other_locations_are_refused(location: str) -> None:
    with pytest.raises(InputError, match="http"):
        sources(location, ("http://gateway.test",))


def test_ipfs_path_without_any_gateway_says_so() -> None:
    with pytest.raises(InputError, match="no IPFS gateway"):
        sources("/ipfs/QmFoo", ())
