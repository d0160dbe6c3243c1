"""A small database of the reference implementation, and dumps of it as mysqldump writes them.

`python -m tests.support.reference_dump SOCKET` fills a database `reference` on a MariaDB or MySQL server, from which
`data/reference.sql` was dumped: `mariadb-dump --hex-blob reference`.
"""

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from nacl.secret import SecretBox

from tests.support.documents import jwt

KEY = bytes(range(32))
KEY_TEXT = base64.b64encode(KEY).decode()
API_KEYS = {1: "a1" * 32, 2: "b2" * 32}
"""By host id."""
DATED = "2026-01-02T03:04:05+00:00"

TABLES: dict[str, str] = {
    "hosts": "`id` bigint unsigned NOT NULL AUTO_INCREMENT, `fqdn` varchar(255) NOT NULL,"
    " `api_key` varchar(64) NOT NULL,"
    " `status` varchar(32) NOT NULL DEFAULT 'active', `allow_roaming_ips` tinyint(1) NOT NULL DEFAULT 0,"
    " `last_refresh` varchar(100) DEFAULT NULL, `auth_digest` varchar(128) DEFAULT NULL, `ip` varchar(64) DEFAULT NULL,"
    " `client_version` varchar(64) DEFAULT NULL, `wrapper_version` varchar(64) DEFAULT NULL,"
    " `api_calls` bigint unsigned NOT NULL DEFAULT 0, `created_at` varchar(100) NOT NULL,"
    " `updated_at` varchar(100) NOT NULL, PRIMARY KEY (`id`), UNIQUE KEY `fqdn` (`fqdn`),"
    " KEY `idx_hosts_updated` (`updated_at`)",
    "auth_payloads": "`id` bigint unsigned NOT NULL AUTO_INCREMENT, `last_refresh` varchar(100) NOT NULL,"
    " `sha256` char(64) NOT NULL, `source_host_id` bigint unsigned DEFAULT NULL, `body` longtext DEFAULT NULL,"
    " `created_at` varchar(100) NOT NULL, PRIMARY KEY (`id`)",
    "auth_entries": "`id` bigint unsigned NOT NULL AUTO_INCREMENT, `payload_id` bigint unsigned NOT NULL,"
    " `target` varchar(255) NOT NULL, `token` text NOT NULL, `token_type` varchar(32) NOT NULL,"
    " `organization` varchar(255) DEFAULT NULL, `project` varchar(255) DEFAULT NULL,"
    " `api_base` varchar(255) DEFAULT NULL,"
    " `meta` json DEFAULT NULL, `created_at` varchar(100) NOT NULL, PRIMARY KEY (`id`),"
    " UNIQUE KEY `u` (`payload_id`,`target`), CONSTRAINT `fk` FOREIGN KEY (`payload_id`)"
    " REFERENCES `auth_payloads` (`id`)"
    " ON DELETE CASCADE",
    "host_auth_states": "`host_id` bigint unsigned NOT NULL, `payload_id` bigint unsigned NOT NULL,"
    " `seen_digest` char(64) NOT NULL, `seen_at` varchar(100) NOT NULL, PRIMARY KEY (`host_id`)",
    "host_auth_digests": "`id` bigint unsigned NOT NULL AUTO_INCREMENT, `host_id` bigint unsigned NOT NULL,"
    " `digest` varchar(128) NOT NULL, `last_seen` varchar(100) NOT NULL, `created_at` varchar(100) NOT NULL,"
    " PRIMARY KEY (`id`)",
    "install_tokens": "`id` bigint unsigned NOT NULL AUTO_INCREMENT, `token` char(36) NOT NULL,"
    " `host_id` bigint unsigned NOT NULL, `fqdn` varchar(255) NOT NULL, `api_key` varchar(64) NOT NULL,"
    " `base_url` varchar(255) DEFAULT NULL, `expires_at` varchar(100) NOT NULL, `used_at` varchar(100) DEFAULT NULL,"
    " `created_at` varchar(100) NOT NULL, PRIMARY KEY (`id`)",
    "token_usages": "`id` bigint unsigned NOT NULL AUTO_INCREMENT, `host_id` bigint unsigned DEFAULT NULL,"
    " `total` bigint unsigned DEFAULT NULL, `input_tokens` bigint unsigned DEFAULT NULL,"
    " `output_tokens` bigint unsigned DEFAULT NULL, `cached_tokens` bigint unsigned DEFAULT NULL,"
    " `reasoning_tokens` bigint unsigned DEFAULT NULL, `model` varchar(128) DEFAULT NULL, `line` text DEFAULT NULL,"
    " `created_at` varchar(100) NOT NULL, PRIMARY KEY (`id`)",
    "slash_commands": "`id` bigint unsigned NOT NULL AUTO_INCREMENT, `filename` varchar(255) NOT NULL,"
    " `sha256` char(64) NOT NULL, `description` text DEFAULT NULL, `argument_hint` varchar(255) DEFAULT NULL,"
    " `prompt` longtext NOT NULL, `source_host_id` bigint unsigned DEFAULT NULL, `created_at` varchar(100) NOT NULL,"
    " `updated_at` varchar(100) NOT NULL, PRIMARY KEY (`id`), UNIQUE KEY `f` (`filename`)",
    "versions": "`name` varchar(191) NOT NULL, `version` varchar(191) NOT NULL, `updated_at` varchar(100) NOT NULL,"
    " PRIMARY KEY (`name`)",
    "logs": "`id` bigint unsigned NOT NULL AUTO_INCREMENT, `host_id` bigint unsigned DEFAULT NULL,"
    " `action` varchar(64) NOT NULL, `details` longtext DEFAULT NULL, `created_at` varchar(100) NOT NULL,"
    " PRIMARY KEY (`id`)",
    "pricing_snapshots": "`id` bigint unsigned NOT NULL AUTO_INCREMENT, `model` varchar(128) NOT NULL, `raw` blob,"
    " `price` decimal(10,6) NOT NULL, PRIMARY KEY (`id`)",
}
PROMPT = (
    '---\ndescription: It\'s "quoted"\n---\r\nback\\slash \t tab, Zoë 😀, 100% _under\x1a\0;\n'
    "'); DROP TABLE `hosts`; --\n"
)
PROMPT_HERE = PROMPT.replace("\0", "")
"""As it is imported: not every database can hold U+0000."""
LINE = "Token usage: total=12 input=7 output=5"
Rows = dict[str, list[dict[str, Any]]]


def document(last_refresh: str, seed: str) -> dict[str, Any]:
    """A document as the reference keeps it, in canonical form."""
    token = jwt(f"access {seed}")
    return {
        "OPENAI_API_KEY": None,
        "tokens": {"id_token": jwt(f"id {seed}"), "access_token": token, "refresh_token": f"rt-{seed}"},
        "last_refresh": last_refresh,
        "auths": {"api.openai.com": {"token": token, "token_type": "bearer"}},
    }


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def seal(text: str, nonce: int = 1) -> str:
    """What the reference stores; the nonce is fixed so that the same is stored each time."""
    sealed = SecretBox(KEY).encrypt(text.encode(), bytes([nonce]) * 24)
    return "sbox:v1:" + base64.b64encode(bytes(sealed)).decode()


NEWEST = document("2026-01-02T00:00:00.123456789Z", "new")
OLDER = document("2026-01-01T00:00:00Z", "old")
# From before bodies were kept: entries alone.
BARE = {
    "last_refresh": "2025-12-01T00:00:00Z",
    "auths": {"api.openai.com": {"organization": "org-1", "token": jwt("bare"), "token_type": "bearer"}},
}


def rows(*, recent: str = DATED) -> Rows:
    """Rows of all tables; usage and audit rows are of `recent`."""
    later = (datetime.now(UTC) + timedelta(minutes=20)).isoformat(timespec="seconds")
    hosts = [
        ("Web1.example.net", API_KEYS[1], "active", 1, NEWEST, "10.0.0.1", "0.63.0", 7),
        ("web2.example.net", API_KEYS[2], "suspended", 0, None, "::ffff:10.0.0.2", "unknown", 0),
    ]
    payloads = [(1, BARE, None), (2, OLDER, seal(compact(OLDER), 2)), (3, NEWEST, seal(compact(NEWEST), 3))]
    return {
        "hosts": [
            {
                "id": number,
                "fqdn": fqdn,
                "api_key": api_key,
                "status": status,
                "allow_roaming_ips": roaming,
                "last_refresh": held["last_refresh"] if held else None,
                "auth_digest": sha256(compact(held)) if held else None,
                "ip": ip,
                "client_version": version,
                "wrapper_version": "2025.11.20-1",
                "api_calls": calls,
                "created_at": "2025-11-01T00:00:00+00:00",
                "updated_at": DATED,
            }
            for number, (fqdn, api_key, status, roaming, held, ip, version, calls) in enumerate(hosts, 1)
        ],
        "auth_payloads": [
            {
                "id": number,
                "last_refresh": content["last_refresh"],
                "sha256": sha256(compact(content)),
                "source_host_id": 1 if number > 1 else None,
                "body": body,
                "created_at": DATED,
            }
            for number, content, body in payloads
        ],
        "auth_entries": [
            {
                "id": number,
                "payload_id": number,
                "target": "api.openai.com",
                "token": seal(content["auths"]["api.openai.com"]["token"], 10 + number),
                "token_type": "bearer",
                "organization": "org-1" if number == 1 else None,
                "project": None,
                "api_base": None,
                "meta": None,
                "created_at": DATED,
            }
            for number, content, _ in payloads
        ],
        "host_auth_states": [{"host_id": 1, "payload_id": 3, "seen_digest": sha256(compact(NEWEST)), "seen_at": DATED}],
        "host_auth_digests": [
            {
                "id": number,
                "host_id": 1,
                "digest": sha256(str(number)),
                "last_seen": f"2026-01-0{number}T00:00:00+00:00",
                "created_at": DATED,
            }
            for number in range(1, 6)
        ],
        "install_tokens": [
            {
                "id": 1,
                "token": "0f8fad5b-d9cb-469f-a165-70867728950e",
                "host_id": 2,
                "fqdn": "web2.example.net",
                "api_key": API_KEYS[2],
                "base_url": "http://old.example.net",
                "expires_at": later if recent != DATED else "2026-01-02T03:34:05+00:00",
                "used_at": None,
                "created_at": DATED,
            }
        ],
        "token_usages": [
            usage(3, 1, recent, total=12, input_tokens=7, output_tokens=5, line=LINE, model="gpt-5.1"),
            usage(4, 1, recent, total=30, input_tokens=20, output_tokens=10, cached_tokens=4, reasoning_tokens=2),
            usage(5, None, recent, total=5, model="gpt-5.1"),
            usage(9, 2, recent, line="Token usage: a line\x1b[31m without numbers"),
        ],
        "slash_commands": [
            {
                "id": 4,
                "filename": "Review.md",
                "sha256": sha256(PROMPT),
                "description": 'It\'s "quoted"',
                "argument_hint": "[FILE]",
                "prompt": PROMPT,
                "source_host_id": 1,
                "created_at": DATED,
                "updated_at": DATED,
            }
        ],
        "versions": [
            {"name": "canonical_payload_id", "version": "3", "updated_at": DATED},
            {"name": "api_disabled", "version": "1", "updated_at": DATED},
            {"name": "client_available", "version": "0.63.0", "updated_at": DATED},
        ],
        "logs": [
            {
                "id": 1,
                "host_id": 1,
                "action": "auth.store",
                "details": compact({"status": "updated", "incoming_digest": sha256("x"), "stored_last_refresh": DATED}),
                "created_at": recent,
            },
            {
                "id": 2,
                "host_id": None,
                "action": "admin.install_token.create",
                "details": compact({"fqdn": "é.example.net", "token": "0f8fad5b…", "api_key": API_KEYS[1]}),
                "created_at": recent,
            },
            {
                "id": 3,
                "host_id": 2,
                "action": "auth.validate",
                "details": compact(
                    {"reason": f"cdx said {jwt('in a log')} and {API_KEYS[2]}", "updated_auth": NEWEST, "latency_ms": 5}
                ),
                "created_at": recent,
            },
        ],
        "pricing_snapshots": [{"id": 1, "model": "gpt-5.1", "raw": b"\x00\xff'\\", "price": 1.25}],
    }


def usage(number: int, host_id: int | None, at: str, **given: Any) -> dict[str, Any]:
    names = ("total", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "model", "line")
    return {"id": number, "host_id": host_id, **{name: given.get(name) for name in names}, "created_at": at}


_ESCAPES = {"\\": "\\\\", "'": "\\'", '"': '\\"', "\n": "\\n", "\r": "\\r", "\0": "\\0", "\x1a": "\\Z"}


def literal(value: Any) -> str:
    """A value as mysqldump writes it."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return "0x" + value.hex().upper()
    if isinstance(value, str):
        return "'" + "".join(_ESCAPES.get(character, character) for character in value) + "'"
    return str(value)


def insert(table: str, rows: Iterable[Mapping[str, Any]], columns: str = "") -> str:
    """An extended INSERT."""
    lines = ",\n".join("(" + ",".join(literal(value) for value in row.values()) + ")" for row in rows)
    return f"INSERT INTO `{table}`{columns} VALUES\n{lines};\n"


def create(table: str) -> str:
    body = TABLES[table].replace(", `", ",\n  `")
    return f"CREATE TABLE `{table}` (\n  {body}\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;\n"


def dump(content: Rows, *, complete: bool = False) -> str:
    """A dump of the tables in alphabetical order; `complete` is --complete-insert --no-create-info."""
    parts = ["-- MySQL dump 10.13  Distrib 8.0.36\n--\n/*!40101 SET NAMES utf8mb4 */;\n"]
    for table in sorted(content):
        given = content[table]
        if not complete:
            parts.append(f"DROP TABLE IF EXISTS `{table}`;\n/*!50503 SET character_set_client = utf8mb4 */;\n")
            parts.append(create(table))
        parts.append(f"LOCK TABLES `{table}` WRITE;\n/*!40000 ALTER TABLE `{table}` DISABLE KEYS */;\n")
        if given:
            names = " (" + ", ".join(f"`{name}`" for name in given[0]) + ")" if complete else ""
            parts.append(insert(table, given, names))
        parts.append("UNLOCK TABLES;\n")
    return "".join(parts) + "-- Dump completed\n"


if __name__ == "__main__":
    statements = ["CREATE DATABASE reference CHARACTER SET utf8mb4;\nUSE reference;\nSET FOREIGN_KEY_CHECKS = 0;\n"]
    statements += [create(table) + insert(table, given) for table, given in rows().items()]
    command = ["mariadb", "--default-character-set=utf8mb4", "-S", sys.argv[1]]
    subprocess.run(command, input="".join(statements).encode(), check=True)
