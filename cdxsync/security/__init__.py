"""Who may do what: certificates, API keys and client addresses."""
