"""What the fleet knows of Codex and its account: `versions` of the client, and the `quota` of ChatGPT."""
