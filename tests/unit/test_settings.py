from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme

from signalpost.errors import SettingError
from signalpost.secretbox import SecretBox
from signalpost.settings import Settings, load_settings
from signalpost.settings.datafolder import STACK_FILE, default_data_folder, read_stack

URL = "postgresql://alice:wonderland@db.example:5432/trading"
DRIVER_URL = "postgresql+psycopg://alice:wonderland@db.example:5432/trading"
REDIS = "redis://:wonderland@redis.example:6379/0"
BATTERY = "correct horse battery staple"


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """A data folder as a running stack leaves it."""
    return write_stack(tmp_path / "stack", "stack-db", "stack-redis")


def write_stack(folder: Path, database: str, redis: str) -> Path:
    folder.mkdir(parents=True)
    addresses = {
        "database_url": f"postgresql://{database}/signalpost",
        "redis_url": f"redis://{redis}:6379/0",
        "secret_keys": [SecretBox.new_key()],
    }
    (folder / STACK_FILE).write_text(json.dumps(addresses))
    return folder


def home_with_stack(tmp_path: Path) -> dict[str, str]:
    environ = {"HOME": str(tmp_path / "home")}
    write_stack(default_data_folder(environ), "home-db", "home-redis")
    return environ


def test_defaults_are_those_of_the_settings_page() -> None:
    """Where only a database is given, all else has its documented default."""
    settings = load_settings({"DATABASE_URL": URL})
    assert settings == Settings(
        database_url=URL,
        database_source="DATABASE_URL",
        redis_url=None,
        redis_source="nothing set",
        secret_keys=(),
        producer_id=None,
        hmac_producer_secret=None,
        hmac_producer_enabled=True,
        outbound_server_url=None,
        outbound_timeout_seconds=30,
        outbound_max_body_size=65536,
        outbound_allow_networks=(),
        max_retries=5,
        retry_delay_seconds=5.0,
        signal_ttl_seconds=600,
        retention_days=30,
        ops_telegram_bot_token=None,
        ops_telegram_chat_id=None,
        ops_telegram_base_url=None,
        alert_window_seconds=60,
        alert_messages_per_minute=10,
        alert_quiet_kinds=(),
    )
    assert settings.database_url == DRIVER_URL


def test_every_setting_is_read_from_its_variable() -> None:
    """Each variable reaches its field, parsed."""
    key = SecretBox.new_key()
    settings = load_settings(
        {
            "DATABASE_URL": URL,
            "REDIS_URL": REDIS,
            "SECRET_KEYS": f"{key}, {key}",
            "PRODUCER_ID": "momentum-1",
            "HMAC_PRODUCER_SECRET": BATTERY,
            "HMAC_PRODUCER_ENABLED": "False",
            "OUTBOUND_SERVER_URL": "https://receiver.example/signals",
            "OUTBOUND_TIMEOUT_SECONDS": "5.5",
            "OUTBOUND_MAX_BODY_SIZE": "1024",
            "OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8, ::1",
            "MAX_RETRIES": "0",
            "RETRY_DELAY_SECONDS": "0.1",
            "SIGNAL_TTL_SECONDS": "60",
            "RETENTION_DAYS": "1",
            "OPS_TELEGRAM_BOT_TOKEN": "12:ab",
            "OPS_TELEGRAM_CHAT_ID": "-100",
            "OPS_TELEGRAM_BASE_URL": "http://127.0.0.1:8081/bot",
            "ALERT_WINDOW_SECONDS": "0",
            "ALERT_MESSAGES_PER_MINUTE": "60",
            "ALERT_QUIET_KINDS": "redis_gone, heartbeat",
        }
    )
    assert settings == Settings(
        database_url=DRIVER_URL,
        database_source="DATABASE_URL",
        redis_url=REDIS,
        redis_source="REDIS_URL",
        secret_keys=(key, key),
        producer_id="momentum-1",
        hmac_producer_secret=BATTERY,
        hmac_producer_enabled=False,
        outbound_server_url="https://receiver.example/signals",
        outbound_timeout_seconds=5.5,
        outbound_max_body_size=1024,
        outbound_allow_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")),
        max_retries=0,
        retry_delay_seconds=0.1,
        signal_ttl_seconds=60,
        retention_days=1,
        ops_telegram_bot_token="12:ab",
        ops_telegram_chat_id="-100",
        ops_telegram_base_url="http://127.0.0.1:8081/bot",
        alert_window_seconds=0,
        alert_messages_per_minute=60,
        alert_quiet_kinds=("redis_gone", "heartbeat"),
    )


def test_the_prefixed_variable_wins() -> None:
    """SIGNALPOST_<NAME> is taken before <NAME>, for any setting."""
    environ = {"DATABASE_URL": URL, "MAX_RETRIES": "1", "SIGNALPOST_MAX_RETRIES": "2"}
    assert load_settings(environ).max_retries == 2


def test_an_empty_variable_counts_as_not_set() -> None:
    """A variable that is empty or blank leaves the default, as compose files need."""
    environ = {"DATABASE_URL": URL, "SIGNALPOST_DATABASE_URL": "", "MAX_RETRIES": "  "}
    settings = load_settings(environ)
    assert (settings.database_source, settings.max_retries) == ("DATABASE_URL", 5)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_database_url_gets_the_one_driver(scheme: str) -> None:
    """However a PostgreSQL URL is written, the driver is psycopg."""
    settings = load_settings({"DATABASE_URL": URL.replace("postgresql", scheme, 1)})
    assert settings.database_url == DRIVER_URL


def test_servers_are_looked_for_in_the_documented_order(tmp_path: Path, stack: Path) -> None:
    """The prefixed variable, else an explicit data folder, else the plain variable, else home."""
    environ = home_with_stack(tmp_path)
    home = default_data_folder(environ)

    def source(**more: str) -> tuple[str, str]:
        settings = load_settings({**environ, **more})
        return settings.database_source, settings.redis_source

    plain = {"DATABASE_URL": URL, "REDIS_URL": REDIS}
    folder = {"SIGNALPOST_DATA_DIR": str(stack)}
    named = {"SIGNALPOST_DATABASE_URL": URL, "SIGNALPOST_REDIS_URL": REDIS}
    assert source(**plain, **folder, **named) == tuple(named)
    assert source(**plain, **folder) == (f"data folder {stack}",) * 2
    assert source(**plain) == tuple(plain)
    assert source() == (f"data folder {home}",) * 2


def test_an_argument_names_the_data_folder_too(stack: Path, tmp_path: Path) -> None:
    """`data_folder` is the explicit folder, before the variable of the same meaning."""
    other = write_stack(tmp_path / "other", "other-db", "other-redis")
    settings = load_settings({"SIGNALPOST_DATA_DIR": str(other)}, data_folder=stack)
    assert settings.database_url == "postgresql+psycopg://stack-db/signalpost"
    assert settings.redis_url == "redis://stack-redis:6379/0"


def test_keys_of_a_data_folder_belong_to_its_database_alone(stack: Path) -> None:
    """A stack's keys are used with its own database and never with another one."""
    joined = load_settings({}, data_folder=stack)
    assert joined.secret_keys == read_keys(stack)
    elsewhere = load_settings({"SIGNALPOST_DATABASE_URL": URL}, data_folder=stack)
    assert elsewhere.secret_keys == ()
    own = SecretBox.new_key()
    assert load_settings({"SECRET_KEYS": own}, data_folder=stack).secret_keys == (own,)


def read_keys(folder: Path) -> tuple[str, ...]:
    found = read_stack(folder)
    assert found is not None
    return found.secret_keys


def test_the_redis_of_a_stack_at_home_serves_no_other_database(tmp_path: Path) -> None:
    """With a database from elsewhere, the Redis of a stack that merely runs here is not used."""
    settings = load_settings({**home_with_stack(tmp_path), "DATABASE_URL": URL})
    assert (settings.redis_url, settings.redis_source) == (None, "nothing set")


def test_no_database_is_one_clear_line(tmp_path: Path) -> None:
    """Nothing to connect to is told with both remedies."""
    with pytest.raises(SettingError, match=r"set DATABASE_URL, or .*signalpost up"):
        load_settings({"HOME": str(tmp_path)})


def test_a_named_folder_without_a_stack_is_not_passed_over(tmp_path: Path) -> None:
    """A data folder that was asked for and where nothing runs is an error, not a next guess."""
    with pytest.raises(SettingError, match="no stack runs in the data folder"):
        load_settings({"DATABASE_URL": URL}, data_folder=tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '"x"', '{"database_url": null', "\xff"])
def test_a_damaged_data_folder_is_told(tmp_path: Path, content: str) -> None:
    """Whatever else stands in the stack's file is told as damage, in one line."""
    (tmp_path / STACK_FILE).write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingError, match="is damaged; restart the stack"):
        load_settings({}, data_folder=tmp_path)


def test_an_unreadable_data_folder_is_told(tmp_path: Path) -> None:
    """A file of addresses that is there and cannot be read is told as such."""
    (tmp_path / STACK_FILE).mkdir()
    with pytest.raises(SettingError, match="run as the account"):
        load_settings({}, data_folder=tmp_path)


def test_a_dotenv_file_fills_what_the_environment_leaves_open(tmp_path: Path) -> None:
    """Lines of the file count where the environment is silent, and are taken literally."""
    file = tmp_path / ".env"
    secret = f"HMAC_PRODUCER_SECRET='a${{HOME}} {BATTERY}'"
    file.write_text(f"DATABASE_URL={URL}\nMAX_RETRIES=3\nRETENTION_DAYS=7\n{secret}\n")
    settings = load_settings({"MAX_RETRIES": "4"}, dotenv=file)
    assert (settings.max_retries, settings.retention_days) == (4, 7)
    assert settings.hmac_producer_secret == f"a${{HOME}} {BATTERY}"
    with pytest.raises(SettingError):
        load_settings({"HOME": str(tmp_path)})


def test_a_missing_dotenv_file_is_no_matter(tmp_path: Path) -> None:
    """A file that is not there changes nothing; one that is no text is told."""
    file = tmp_path / ".env"
    assert load_settings({"DATABASE_URL": URL}, dotenv=file).database_url == DRIVER_URL
    file.write_bytes(b"\xff\xfe=")
    with pytest.raises(SettingError, match="cannot be read"):
        load_settings({"DATABASE_URL": URL}, dotenv=file)


WRONG = {
    "DATABASE_URL": ["mysql://wonderland@h/d", "wonderland", "postgresql://h:wonderland/d"],
    "REDIS_URL": ["http://wonderland", "redis://", "redis://h/wonderland", "redis://h:6379x/0"],
    "SECRET_KEYS": ["wonderland", "wonderland" * 5, "wünderland"],
    "PRODUCER_ID": ["wonder land", "wonderland" * 7, "wonderland\n."],
    "HMAC_PRODUCER_SECRET": ["wonderland", "whsec_wonderland!"],
    "HMAC_PRODUCER_ENABLED": ["wonderland"],
    "OUTBOUND_SERVER_URL": [
        *("wonderland", "ftp://wonderland/", "https://alice:wonderland@h/", "https:///wonderland"),
        *("https://h/#wonderland", "https://@wonderland/", "https://wonderland.example /x"),
    ],
    "OUTBOUND_TIMEOUT_SECONDS": ["wonderland", "4.9", "301", "nan", "inf"],
    "OUTBOUND_MAX_BODY_SIZE": ["1023", "10485761", "64k", "1e4"],
    "OUTBOUND_ALLOW_NETWORKS": ["wonderland", "10.0.0.1/8", "10.0.0.0/8;::1"],
    "MAX_RETRIES": ["-1", "wonderland", "1.5"],
    "RETRY_DELAY_SECONDS": ["0", "-1", "wonderland"],
    "SIGNAL_TTL_SECONDS": ["0", "nan"],
    "RETENTION_DAYS": ["0", "wonderland"],
    "OPS_TELEGRAM_BASE_URL": ["wonderland"],
    "ALERT_WINDOW_SECONDS": ["-1", "241", "wonderland"],
    "ALERT_MESSAGES_PER_MINUTE": ["0", "61", "1.5"],
    "ALERT_QUIET_KINDS": ["wonderland", "redis_gone,wonderland", "dead"],
}


@pytest.mark.parametrize(
    ("variable", "value"),
    [(variable, value) for variable, values in WRONG.items() for value in values],
)
@pytest.mark.parametrize("prefix", ["", "SIGNALPOST_"])
def test_a_wrong_value_is_one_line_without_the_value(
    prefix: str, variable: str, value: str
) -> None:
    """A value that cannot be used stops the start: the variable as written, the rule, no value."""
    with pytest.raises(SettingError) as caught:
        load_settings({"DATABASE_URL": URL, prefix + variable: value})
    text = str(caught.value)
    assert text.startswith(f"{prefix}{variable} ")
    assert "\n" not in text
    assert "wonderland" not in text
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("kind", ["dead", "expired", "corrected"])
def test_the_end_of_a_delivery_cannot_be_made_quiet(kind: str) -> None:
    """Who asks for silence about dead letters is told in one line that there is none."""
    with pytest.raises(SettingError, match="ALERT_QUIET_KINDS cannot make dead, expired or corr"):
        load_settings({"DATABASE_URL": URL, "ALERT_QUIET_KINDS": f"redis_gone,{kind}"})


@pytest.mark.parametrize(
    ("given", "value"), [("OPS_TELEGRAM_BOT_TOKEN", "12:wonderland"), ("OPS_TELEGRAM_CHAT_ID", "7")]
)
def test_telegram_settings_belong_together(given: str, value: str) -> None:
    """One of token and chat without the other would be silence, so it is an error."""
    with pytest.raises(SettingError, match="set both or none"):
        load_settings({"DATABASE_URL": URL, given: value})


@pytest.mark.parametrize("token", ["wonderland", "12", "12:", ":ab", "12:a b", "https://12:ab"])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    """A bot's token is a number, a colon and its secret; what is written elsewhere is noticed."""
    given = {"DATABASE_URL": URL, "OPS_TELEGRAM_BOT_TOKEN": token, "OPS_TELEGRAM_CHAT_ID": "7"}
    with pytest.raises(SettingError, match="TOKEN must be a bot's token") as caught:
        load_settings(given)
    assert "wonderland" not in str(caught.value)


@pytest.mark.parametrize(
    ("chat", "good"),
    [
        ("7", True),
        ("-1001", True),
        ("@desk_1", True),
        ("desk", False),
        ("@", False),
        ("7 8", False),
    ],
)
def test_a_chat_is_a_number_or_a_public_name(chat: str, good: bool) -> None:
    """Anything else could not be a chat of Telegram's."""
    given = {"DATABASE_URL": URL, "OPS_TELEGRAM_BOT_TOKEN": "12:ab", "OPS_TELEGRAM_CHAT_ID": chat}
    if good:
        assert load_settings(given).ops_telegram_chat_id == chat
    else:
        with pytest.raises(SettingError, match="OPS_TELEGRAM_CHAT_ID must be a chat's number"):
            load_settings(given)


def test_settings_do_not_show_secrets() -> None:
    """The repr of settings holds no password, secret, key or token."""
    key = SecretBox.new_key()
    secrets = {
        "DATABASE_URL": URL,
        "REDIS_URL": REDIS,
        "SECRET_KEYS": key,
        "HMAC_PRODUCER_SECRET": BATTERY,
        "OPS_TELEGRAM_BOT_TOKEN": "12:looking-glass",
        "OPS_TELEGRAM_CHAT_ID": "7",
    }
    shown = repr(load_settings(secrets))
    assert not [word for word in ("wonderland", key, BATTERY, "looking-glass") if word in shown]


def test_the_data_folder_of_a_user() -> None:
    """The per-user folder is XDG's, or the Mac's, below the given home."""
    folder = default_data_folder({"HOME": "/home/alice"})
    assert folder.is_relative_to("/home/alice")
    assert folder.name == "signalpost"


def test_a_redis_url_carries_its_authority(tmp_path: Path) -> None:
    """Every client is handed the file with the URL, and a URL without TLS stays as it is."""
    file = tmp_path / "my authority.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    variables = {"DATABASE_URL": URL, "REDIS_CA_FILE": str(file)}
    plain = load_settings({**variables, "REDIS_URL": REDIS})
    secured = load_settings({**variables, "REDIS_URL": REDIS.replace("redis:", "rediss:", 1)})
    assert plain.redis_url == REDIS
    assert secured.redis_url is not None
    assert parse_qs(urlsplit(secured.redis_url).query) == {"ssl_ca_certs": [str(file)]}


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates_is_named(tmp_path: Path, content: str | None) -> None:
    """A file that is not there, or holds no certificate, is refused with the variable's name."""
    file = tmp_path / "authority.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingError, match="REDIS_CA_FILE must name a readable file"):
        load_settings({"DATABASE_URL": URL, "REDIS_CA_FILE": str(file)})


def test_the_home_of_nobody_is_one_line() -> None:
    """A `~name` without such an account is a folder that is not there."""
    with pytest.raises(SettingError, match="no stack runs in the data folder ~no-such-account/x"):
        load_settings({"SIGNALPOST_DATA_DIR": "~no-such-account/x"})
    with pytest.raises(SettingError, match="REDIS_CA_FILE must name a readable file"):
        load_settings({"DATABASE_URL": URL, "REDIS_CA_FILE": "~no-such-account/ca.pem"})
