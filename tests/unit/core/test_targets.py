from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.core.targets import read_target, wire_target
from signalpost.errors import EndpointError


@pytest.mark.parametrize(
    ("url", "authority", "raw_path", "query"),
    [
        ("https://example.com", "example.com", "/", ""),
        ("https://example.com/hook", "example.com", "/hook", ""),
        ("HTTPS://EXAMPLE.com:443/Hook", "example.com", "/Hook", ""),
        ("http://example.com:80/", "example.com", "/", ""),
        ("https://example.com:80/", "example.com:80", "/", ""),
        ("https://example.com:8443/", "example.com:8443", "/", ""),
        ("https://example.com:/x", "example.com", "/x", ""),
        ("https://example.com./x", "example.com.", "/x", ""),
        ("https://my_host/x", "my_host", "/x", ""),
        ("https://bücher.example/ä?ö", "xn--bcher-kva.example", "/%C3%A4", "%C3%B6"),
        ("https://127.0.0.1/", "127.0.0.1", "/", ""),
        ("https://１２７.0.0.1/", "127.0.0.1", "/", ""),  # noqa: RUF001
        ("https://[::1]/", "[::1]", "/", ""),
        ("https://[2001:DB8:0::1]:8443/x", "[2001:db8::1]:8443", "/x", ""),
        ("https://example.com?a=b", "example.com", "/", "a=b"),
        ("https://example.com/?", "example.com", "/", ""),
        ("https://example.com/x#part?no", "example.com", "/x", ""),
        ("https://example.com/a?b?c=/d#e", "example.com", "/a", "b?c=/d"),
        ("https://user:pass@example.com/x", "example.com", "/x", ""),
        ("https://a@b:c@example.com/x", "example.com", "/x", ""),
    ],
)
def test_a_url_becomes_the_host_header_and_the_request_line(
    url: str, authority: str, raw_path: str, query: str
) -> None:
    """Host, path and query are what HTTP puts on the wire for the URL."""
    assert wire_target(url) == (authority, raw_path, query)


@pytest.mark.parametrize(
    "target",
    [
        *("/%7euser", "/%7Euser", "/~user", "/a%2fb", "/a%2Fb", "/%41", "/a//b", "//", "/a/./b"),
        *("/a/../b", "/..", "/%2e%2e/x", "/;v=1,2", "/a:b@c", "/!$&'()*+,;=", "/x?%3d=%26&a=+"),
        *("/x?a=b%20c", "/x?a&&b=", "/x?/?", "/%00", "/%ff?%FF"),
    ],
)
def test_what_is_legal_stays_as_it_is_written(target: str) -> None:
    """Percent escapes, empty and dot segments are neither decoded, re-encoded nor collapsed."""
    assert read_target(f"https://example.com{target}").request_target == target


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("/a b", "/a%20b"),
        ('/"<>\\^`{|}', "/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("/100%", "/100%25"),
        ("/%zz%4", "/%25zz%254"),
        ("/x?a[]=1", "/x?a%5B%5D=1"),
        ("/日本", "/%E6%97%A5%E6%9C%AC"),
    ],
)
def test_what_is_not_legal_is_escaped_once(written: str, sent: str) -> None:
    """Only what RFC 3986 forbids is escaped, and escaping the result again changes nothing."""
    assert read_target(f"https://example.com{written}").request_target == sent
    assert read_target(f"https://example.com{sent}").request_target == sent


def test_a_user_and_password_become_basic_credentials() -> None:
    """Credentials in the URL are sent as RFC 7617 has it, and shown nowhere."""
    target = read_target("https://ada:love%3Alace@example.com/x")
    assert target.authorization == "Basic " + base64.b64encode(b"ada:love:lace").decode()
    assert "Basic" not in repr(target)
    assert read_target("https://example.com/x").authorization is None


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.com", "/hook", "ftp://example.com/", "https://", "https:///x", "https:/x"),
        *("https://:8443/", "https://example.com:0/", "https://example.com:65536/"),
        *("https://example.com:x/", "https://example.com:-1/", "https://exa mple.com/"),
        *("https://a..b/", "https://.a/", "https://[::1/", "https://::1/", "https://[1.2.3.4]/"),
        *("https://[fe80::1%25eth0]/", "https://[zz]/", "https://example.com\\x", "https://a%62/"),
        *("https://example.com/\r\nX: y", "https://example.com/\x00", "https://exa\tmple.com/"),
        *(" https://example.com/", "https://example.com/\ud800", f"https://{'a' * 64}.example/"),
        *("https://" + "a." * 128 + "example/", "https://\u2488.example/", "https://xn--\u00fc/"),
        "https://[::1]x/",
    ],
)
def test_a_url_that_cannot_be_sent_to_is_one_error(url: str) -> None:
    """Whatever is wrong with a URL, the error is an EndpointError."""
    with pytest.raises(EndpointError):
        read_target(url)


def test_the_error_never_shows_the_url() -> None:
    """A password in a wrong URL does not reach the message."""
    with pytest.raises(EndpointError) as caught:
        read_target("https://ada:lovelace@exa mple.com/")
    assert "lovelace" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_target_or_the_one_error(text: str) -> None:
    """No text makes the parser raise anything else, or yields bytes that HTTP cannot carry."""
    for url in (text, f"https://{text}", f"https://example.com/{text}", f"https://a?{text}"):
        try:
            target = read_target(url)
        except EndpointError:
            continue
        line = f"{target.authority} {target.request_target}"
        assert line.isascii()
        assert line.isprintable()
        assert line.count(" ") == 1
        assert target.raw_path.startswith("/")
