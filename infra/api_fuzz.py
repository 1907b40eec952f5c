"""How schemathesis writes bodies of the content types that it doesn't know."""

import json

import schemathesis
import tomli_w


@schemathesis.serializer("application/toml")
def toml(_context, value):
    try:
        return tomli_w.dumps(value).encode()
    except (AttributeError, TypeError):  # what TOML can't say
        return json.dumps(value, default=str).encode()


@schemathesis.serializer("application/wasm")
def wasm(_context, value):
    return b"\0asm" + str(value).encode(errors="replace")
