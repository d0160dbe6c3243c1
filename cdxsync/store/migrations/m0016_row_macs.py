"""Rows that give rights have a MAC (`cdxsync.store.rights`); what an older server writes has none, or a wrong one."""

ADDITIVE = True
STATEMENTS = (
    "ALTER TABLE hosts ADD COLUMN mac VARCHAR(255)",
    "ALTER TABLE auth_payloads ADD COLUMN mac VARCHAR(255)",
    "ALTER TABLE host_grants ADD COLUMN mac VARCHAR(255)",
    "ALTER TABLE login_offers ADD COLUMN mac VARCHAR(255)",
    "ALTER TABLE install_tokens ADD COLUMN mac VARCHAR(255)",
    "ALTER TABLE versions ADD COLUMN mac VARCHAR(255)",
    "ALTER TABLE slash_commands ADD COLUMN mac VARCHAR(255)",
    "ALTER TABLE slash_command_versions ADD COLUMN mac VARCHAR(255)",
)
