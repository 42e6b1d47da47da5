"""The keys that detach a client from a terminal without ending what runs there (Engine API, `detachKeys`)."""

from nacre.cloud.errors import Invalid

DEFAULT = "ctrl-p,ctrl-q"
_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31, **{chr(97 + n): n + 1 for n in range(26)}}


def parse(text: str) -> bytes:
    """`a`, `ctrl-a`, and several with commas between. Raises Invalid."""
    found = []
    for name in (text or DEFAULT).split(","):
        control = name.removeprefix("ctrl-")
        if len(name) == 1 and ord(name) < 128:
            found.append(ord(name))
        elif control != name and control in _CONTROL:
            found.append(_CONTROL[control])
        else:
            raise Invalid(f"Invalid detach keys ({text}) provided: Unknown character: '{name}'")
    return bytes(found)


class Detacher:
    """Looks for the keys in what is typed."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0
        self.detached = False

    def take(self, data: bytes) -> bytes:
        """What is to be passed on. Keys that may be the beginning are held back until the next one."""
        out = bytearray()
        for key in data:
            if key == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    self.detached = True
                    return bytes(out)
                continue
            out += self._keys[: self._seen]
            self._seen = 1 if key == self._keys[0] else 0
            if not self._seen:
                out.append(key)
        return bytes(out)
