"""Slash-command prompts that all hosts share: the `catalog`, and its `history`."""
