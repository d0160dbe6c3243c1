"""A model that has Codex use its tools: what it says for `Provider.script`, and models for `Provider.reply`."""

import json
from typing import Any


def command_call(command: str) -> dict[str, Any]:
    """A call of the tool that runs a command."""
    call = {"type": "function_call", "id": "f", "call_id": "c", "name": "exec_command"}
    return call | {"arguments": json.dumps({"cmd": command})}


def function_call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A call of one of Codex's tools for sub-agents."""
    call = {"type": "function_call", "id": f"fc_{name}", "call_id": name, "namespace": "multi_agent_v1"}
    return call | {"name": name, "arguments": json.dumps(arguments)}


class Delegating:
    """A model that starts a sub-agent for what it is asked, waits for it, and ends."""

    def __init__(self, *, fork_context: bool) -> None:
        self.fork_context = fork_context
        self.agent = ""

    def __call__(self, body: dict[str, Any]) -> dict[str, Any] | None:
        last = body["input"][-1]
        if last.get("type") == "function_call_output":
            if last["call_id"] != "spawn_agent":
                return None
            self.agent = json.loads(last["output"])["agent_id"]
            return function_call("wait_agent", {"targets": [self.agent], "timeout_ms": 60000})
        if "delegate" not in json.dumps(last):
            return None
        return function_call("spawn_agent", {"message": "count", "fork_context": self.fork_context})
