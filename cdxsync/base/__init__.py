"""The foundations: errors, settings, files, metrics, logs, clock and texts. They know nothing of a fleet."""
