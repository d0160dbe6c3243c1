"""What everything stands on: errors, settings, files, metrics, logs, the clock and texts. It knows no fleet."""
