"""Services outside the fleet: `github`, `chatgpt`, `prices`, `token_endpoint` with its `token_call`, and the runners,
`local_runner` and `remote_runner`.

`client` makes the calls, `secrecy` keeps secrets out of what is said of them. Only background jobs call them.
"""
