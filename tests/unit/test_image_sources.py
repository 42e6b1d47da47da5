"""From where images are fetched: no name and no way of writing an address leads to this machine or to a cloud's metadata."""

import pytest

from nacre.cloud.image.sources import ImportRules, Refused

INNER = (
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "100.100.100.200", "224.0.0.1", "255.255.255.255", "192.0.0.192"),
    *("198.18.0.1", "::1", "::", "fe80::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::"),
    *("2002:a9fe:a9fe::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "fe80::1%lo"),
    *("::7f00:1", "::a9fe:a9fe", "::ffff:0:127.0.0.1", "64:ff9b:1::7f00:1", "fec0::1"),
)
OUTER = ("8.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "2001:4860:4860::8888", "fd12:3456::1")


@pytest.mark.parametrize("address", INNER)
def test_inner_addresses_are_refused(address: str) -> None:
    with pytest.raises(Refused):
        ImportRules().check_address(address)


@pytest.mark.parametrize("address", OUTER)
def test_web_servers_and_a_sites_mirror_are_asked(address: str) -> None:
    ImportRules().check_address(address)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "x",
            "/etc/passwd",
            "file:///etc/passwd",
            "gopher://example.org/",
            "http://",
            "http:///x",
            "http://:80/",
            "ftp://a/b",
        ),
        *("http://example.org:22/", "http://user:secret@example.org/", "http://127.0.0.1/", "http://[::1]/", "http://localhost/"),
        *("http://LOCALHOST./x", "http://a.localhost/", "http://169.254.169.254/latest/meta-data", "http://[fe80::1]/"),
        *("http://[::ffff:127.0.0.1]/", "http://example.org:99999/", "http://[/", "https://example.org/" + "x" * 3000),
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(Refused):
        ImportRules().check_url(url)


def test_what_an_operator_allows() -> None:
    assert ImportRules().check_url("https://example.org/image").host == "example.org"
    assert ImportRules((0,), ("127.0.0.0/8",)).check_url("http://127.0.0.1:12345/x").port == 12345
    with pytest.raises(Refused):
        ImportRules((0,), ("127.0.0.0/8",)).check_url("http://169.254.169.254/")
