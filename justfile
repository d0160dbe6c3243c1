# The commands of README.md and .ci/run under short names: `.venv/bin/just NAME`. Each line works without `just` as well.

# what there is
default:
    @just --list

# the virtual environment of README.md, with the tools of `lint`
set-up:
    python3 -m venv .venv && .venv/bin/pip install -e '.[test]'
    .venv/bin/pip install -e '.[dev]'

# programs of npm: the real Codex and an older one, the checkers of accessibility and of types in the dashboard's modules
set-up-npm:
    npm install --no-fund --no-audit --prefix .venv/codex @openai/codex@0.171.0 axe-core@4.14.1 typescript@7.0.2
    npm install --no-fund --no-audit --prefix .venv/codex-older @openai/codex@0.169.0

# all tests, or those that are named
test *which:
    .venv/bin/python -m pytest -n auto --dist loadfile {{ which }}

# format, lint, types, layers, shell
lint:
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
    .venv/bin/mypy --python-version 3.10 --strict --package cdxsync.wrapper.src
    .venv/bin/python -m cdxsync.wrapper.src.join --check
    .venv/bin/lint-imports --no-cache
    .venv/codex/node_modules/.bin/tsc -p cdxsync/dashboard
    shellcheck .ci/run .ci/audit cdxsync/wrapper/*.sh examples/*.sh
    .venv/bin/bandit --quiet --configfile pyproject.toml --recursive --severity-level medium cdxsync cli.py

# pin all dependencies by their hashes: the program's for the image, and with the tools of tests and lint for .ci/run
lock:
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "just lock" --extra postgres --extra mysql --extra reference -o requirements.lock setup.cfg
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "just lock" --all-extras -c requirements.lock -o requirements-dev.lock setup.cfg

# write what is generated: manual pages, the API document, cdx
docs:
    .venv/bin/python docs/generate_man.py
    .venv/bin/python docs/generate_api.py
    .venv/bin/python docs/generate_errors.py
    .venv/bin/python -m cdxsync.wrapper.src.join

# measure, all cases or those that are named
bench *which:
    .venv/bin/python -m benchmarks {{ which }}
