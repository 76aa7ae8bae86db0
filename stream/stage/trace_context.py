"""W3C trace context in record headers: well-formed values are forwarded, others dropped.

Source: W3C Trace Context, sections 3.2 (traceparent) and 3.3 (tracestate).
"""

import re
from collections.abc import Sequence

Headers = tuple[tuple[str, bytes], ...]

LONGEST_STATE = 512

_PARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_KEY = rb"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_MEMBER = rb"[ \t]*(?:" + _KEY + rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])?[ \t]*"
_STATE = re.compile(_MEMBER + rb"(?:," + _MEMBER + rb"){0,31}")


def carried(headers: Sequence[tuple[str, bytes | None]]) -> Headers:
    """Return the headers to forward: traceparent, and tracestate where valid.

    None are forwarded unless there is exactly one traceparent and it is valid. A tracestate longer than 512 bytes is
    dropped.
    """
    parents = [value for name, value in headers if name == "traceparent"]
    if len(parents) != 1 or parents[0] is None or not _PARENT.fullmatch(parents[0]):
        return ()
    parent = ("traceparent", parents[0])
    states = [value for name, value in headers if name == "tracestate" and value]
    state = b",".join(states)
    if not state or len(state) > LONGEST_STATE or not _STATE.fullmatch(state):
        return (parent,)
    return (parent, ("tracestate", state))
