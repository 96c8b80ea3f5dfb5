"""GGUF files as keys and tensors, to change and to write again."""

import struct

_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY, U16, I32 = 8, 9, 2, 5


class Gguf:
    """keys: {name: (type, value)}, an array's value being (element type, list); tensors: [(name, dims, type, bytes)] with dims innermost first."""

    def __init__(self, path=None):
        self.keys, self.tensors = {}, []
        if path is None:
            return
        with open(path, "rb") as f:
            self._data, self._at = f.read(), 8
        count, keys = self._number("Q"), self._number("Q")
        for _ in range(keys):
            name = self._string()
            kind = self._number("I")
            self.keys[name] = (kind, self._value(kind))
        entries = []
        for _ in range(count):
            name = self._string()
            dims = [self._number("Q") for _ in range(self._number("I"))]
            entries.append((name, dims, self._number("I"), self._number("Q")))
        data = self._data[-(-self._at // 32) * 32 :]
        ends = sorted(e[3] for e in entries) + [len(data)]
        for name, dims, kind, offset in entries:
            self.tensors.append((name, dims, kind, data[offset : ends[ends.index(offset) + 1]]))

    def _number(self, code):
        value = struct.unpack_from("<" + code, self._data, self._at)[0]
        self._at += struct.calcsize(code)
        return value

    def _string(self):
        size = self._number("Q")
        self._at += size
        return self._data[self._at - size : self._at].decode()

    def _value(self, kind):
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            return self._number(_FORMATS[kind])
        element = self._number("I")
        return element, [self._value(element) for _ in range(self._number("Q"))]

    @staticmethod
    def _pack(kind, value):
        if kind == STRING:
            raw = value.encode()
            return struct.pack("<Q", len(raw)) + raw
        if kind != ARRAY:
            return struct.pack("<" + _FORMATS[kind], value)
        element, items = value
        return struct.pack("<IQ", element, len(items)) + b"".join(Gguf._pack(element, item) for item in items)

    def write(self, path):
        out = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.keys))
        for name, (kind, value) in self.keys.items():
            out += self._pack(STRING, name) + struct.pack("<I", kind) + self._pack(kind, value)
        offset = 0
        for name, dims, kind, data in self.tensors:
            out += self._pack(STRING, name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
            offset += -(-len(data) // 32) * 32
        out += b"\0" * (-len(out) % 32)
        for _, _, _, data in self.tensors:
            out += data + b"\0" * (-len(data) % 32)
        with open(path, "wb") as f:
            f.write(out)
        return path

    def split(self, stem, parts):
        """Writes STEM-00001-of-0000N.gguf and so on, as gguf-split does; returns their paths."""
        paths = []
        for i in range(parts):
            part = Gguf()
            part.keys = dict(self.keys) if i == 0 else {}
            part.keys.update(
                {"split.no": (U16, i), "split.count": (U16, parts), "split.tensors.count": (I32, len(self.tensors))}
            )
            part.tensors = self.tensors[i * len(self.tensors) // parts : (i + 1) * len(self.tensors) // parts]
            paths.append(part.write(f"{stem}-{i + 1:05}-of-{parts:05}.gguf"))
        return paths
