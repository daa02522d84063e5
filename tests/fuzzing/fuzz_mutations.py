"""How the fuzzer damages files: by bytes, and by what the bytes mean so that a checksum still fits.

Every function takes a `random.Random` and gives the same result for the same one: an input is named by the
format, a seed and a number.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message

Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]
"""From a file's bytes, and those of other files of its format, to bytes that are worth trying."""

MOST_BYTES = 1 << 18
"""Longer inputs are cut off: a fault that needs more is of another kind."""

INTEGERS = (
    *(0, 1, 2, 3, 4, 7, 8, 9, 27, 28, 29, 127, 128, 255, 256, 1000, 4095, 32767, 32768, 65535, 65536),
    *(10**5, 10**6, 10**7, 2**24, 2**28, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1),
    *(-1, -2, -(2**31), -(2**63)),
)
FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-45, 1e-38, 3.4e38, 1e39, -1e39, 1e300, float("nan"), float("inf"))
TEXTS = (
    *("", "0", "-1", "1e999", "nan", "relu", "conv2d", "../x.png", "/etc/passwd", "a.png", "\0", "\ud800"),
    *("é" * 9, "x" * 300, "\n", "\x1b[2J", "auto", "none", "sha256:" + "0" * 64, "{}", "1,2,3", "\u2028"),
)
MAGIC = (
    *(b"\0\0\x08\x03", b"\0\0\x08\x01", b"\0\0\x0e\x04", b"\x1f\x8b\x08", b"PK\x03\x04", b"PK\x05\x06"),
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"\xff\xd9", b"P5 ", b"P1\n", b"GIF89a", b"RIFF", b"BM"),
    *(b"\x93NUMPY", b"\x80\x04", b"\xef\xbb\xbf", b"\xff\xfe", b"NaN", b"Infinity", b"null", b"1e999"),
    *(b"{", b"}", b"[" * 50, b'"', b",", b"\\u0000", b"\\ud800", b"\r\n", b"\0", b"-", b"../", b"#"),
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


# bytes -----------------------------------------------------------------------------------------------------


def by_bytes(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to six mistakes at random places, more of them near the beginning, where headers are."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        data = rng.choice(_BYTE_MISTAKES)(rng, data, others)[:MOST_BYTES]
    return data


def _place(rng: Random, data: bytes) -> int:
    most = rng.choice((4, 16, 64, len(data), len(data)))
    return rng.randrange(min(most, len(data)) + 1)


def _flip(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    return data[:at] + bytes(byte ^ 1 << rng.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]


def _write(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _write_integer(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at, size = _place(rng, data), rng.choice((1, 2, 4, 8))
    number = (rng.choice(INTEGERS) % (1 << 8 * size)).to_bytes(size, rng.choice(("little", "big")))
    return data[:at] + number + data[at + size :]


def _write_number(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Another number in the place of one that is written in decimals."""
    found = [*_NUMBER.finditer(data[: 1 << 14])]
    if not found:
        return data
    match = rng.choice(found)
    new = repr(rng.choice((*INTEGERS, *FLOATS)))
    return data[: match.start()] + new.encode() + data[match.end() :]


def _insert(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 30))) + data[at:]


def _insert_magic(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = rng.choice((0, _place(rng, data)))
    magic = rng.choice(MAGIC)
    return data[:at] + magic + data[at + rng.choice((0, len(magic))) :]


def _truncate(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: _place(rng, data)] if rng.random() < 0.7 else data[_place(rng, data) :]


def _delete(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 4, 16, 200)) :]


def _repeat(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    block = data[at : at + rng.choice((1, 4, 32, 500))]
    return data[:at] + block * rng.choice((2, 3, 50, 1000)) + data[at:]


def _splice(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return data[: _place(rng, data)] + other[_place(rng, other) :]


def _overwrite(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    at, start, size = _place(rng, data), _place(rng, other), rng.choice((4, 16, 100))
    return data[:at] + other[start : start + size] + data[at + size :]


_BYTE_MISTAKES = (
    *(_flip, _write, _write_integer, _write_number, _insert, _insert_magic, _truncate, _delete, _repeat),
    *(_splice, _overwrite),
)


# IDX and gzip ----------------------------------------------------------------------------------------------


def idx_header(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Any type and dimensions, with data of the length that they state, or nearly."""
    code = rng.choice((8, 8, 8, 9, 0xB, 0xC, 0xD, 0xE, rng.randrange(256)))
    count = rng.choice((1, 2, 3, 3, 3, 4, 5, 32, 33, 255))
    sizes = [rng.choice((0, 1, 1, 2, 3, 5, 28, rng.choice(INTEGERS) % 2**32)) for _ in range(count)]
    stated = {9: 1, 0xB: 2, 0xC: 4, 0xD: 4, 0xE: 8}.get(code, 1)
    for size in sizes:
        stated *= size
    length = max(0, min(stated, MOST_BYTES) + rng.choice((0, 0, 0, 0, -1, 1, 7)))
    body = (data[16:] or b"\0") * (length // max(len(data) - 16, 1) + 1)
    return bytes([0, 0, code, count]) + struct.pack(f">{count}I", *sizes) + body[:length]


def compressed_after(inner: Mutation) -> Mutation:
    """What a gzip file holds is damaged, and compressed again with a right checksum."""

    def mutate(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
        try:
            content = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            content = data
        content = inner(rng, content, [content])
        packed = gzip.compress(content, rng.choice((0, 1, 9)), mtime=0)
        match rng.randrange(8):
            case 0:  # a header with every optional field: FEXTRA, FNAME, FCOMMENT, FHCRC
                flags = rng.randrange(32)
                extra = rng.randbytes(rng.randrange(40))
                return packed[:3] + bytes([flags]) + packed[4:10] + extra + packed[10:]
            case 1:
                return packed + rng.choice((b"\0" * 9, b"junk", packed))
            case 2:  # more than it says
                return gzip.compress(content + bytes(rng.choice((1, 10**5, 3 * 10**6))), mtime=0)
            case _:
                return packed

    return mutate


# text ------------------------------------------------------------------------------------------------------


def csv_cells(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Cells, lines and line ends changed."""
    lines = data.split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(lines))
        cells = lines[at].split(b",")
        cell = rng.randrange(len(cells))
        match rng.randrange(8):
            case 0:
                cells[cell] = str(rng.choice((*INTEGERS, *FLOATS))).encode()
            case 1:
                cells[cell] = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
            case 2:
                del cells[cell]
            case 3:
                cells.insert(cell, b"0" * rng.choice((1, 3, 4, 100)))
            case 4:
                cells[cell] = rng.choice(
                    (b'"7"', b" 7 ", b"007", b"+7", b"7.0", b"\xc2\xb2", b"label", b"1x2")
                )
            case 5:
                lines.insert(at, rng.choice((b"", b"\r", lines[rng.randrange(len(lines))], b"," * 9)))
            case 6:
                return rng.choice((b"\r\n", b"\r", b"\n\n", b"\x0b", b"\xe2\x80\xa8")).join(lines)
            case 7:
                cells = cells[:1] + cells[1 : rng.choice((1, 2, 5, 10, 17, 50))]
        lines[min(at, len(lines) - 1)] = b",".join(cells)
    return b"\n".join(lines)


def toml_lines(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Values, keys and lines changed."""
    lines = data.decode("utf-8", "replace").splitlines()
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines)) if lines else 0
        key, _, value = (lines[at] if lines else "seed = 0").partition(" = ")
        other = rng.choice(lines or ["seed = 0"]).partition(" = ")[2]
        odd = ("nan", "inf", "-0.0", "1_0", "0x10", "[]", "[1, [2]]", "{a = 1}", "1979-05-27", "true", '""')
        number = str(rng.choice((*INTEGERS, *FLOATS)))
        text = json.dumps(rng.choice(TEXTS)).replace("\\ud800", "\\u0100")
        value = rng.choice((value, other, other, number, number, text, rng.choice(odd), f"[{number}]"))
        key = rng.choice(
            (key, key, key, rng.choice(_SETTING_NAMES), key.upper(), f'"{key}"', f"a.{key}", f"[{key}]")
        )
        line = f"{key} = {value}"
        match rng.randrange(4):
            case 0:
                lines.insert(at, line)
            case 1 if lines:
                del lines[at]
            case _:
                lines[at : at + 1] = [line]
    return "\n".join(lines).encode("utf-8", "replace") + b"\n"


_SETTING_NAMES = (
    *("model", "start-from", "learning-rate", "batch-size", "nb-epochs", "budget", "optimizer", "momentum"),
    *("beta1", "beta2", "weight-decay", "lr-schedule", "lr-gamma", "lr-steps", "lr-peak", "warmup", "loss"),
    *(
        "label-smoothing",
        "clip-norm",
        "average-decay",
        "augment",
        "augment-strength",
        "seed",
        "members",
        "train-data-dir",
        "data",
    ),
    *("validation-split", "patience", "limit", "replay-steps", "replay-legs", "workers"),
)


# JSON ------------------------------------------------------------------------------------------------------


def json_tree(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A JSON document changed as a tree; where it has a checksum, it gets the right one."""
    try:
        tree = json.loads(data)
        donor = json.loads(rng.choice(others))
    except (ValueError, RecursionError):
        return by_bytes(rng, data, others)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        tree = _tree_mistake(rng, tree, donor)
    return checksummed(tree) if rng.random() < 0.95 else json.dumps(tree).encode("utf-8", "replace")


def checksummed(tree: Any) -> bytes:
    """The document as a file, with the right checksum at its end if it had one."""
    if not isinstance(tree, dict) or "checksum" not in tree:
        return json.dumps(tree).encode()
    tree = {name: value for name, value in tree.items() if name != "checksum"}
    covered = json.dumps(tree)[:-1].encode() + b", "
    return covered + f'"checksum": "sha256:{hashlib.sha256(covered).hexdigest()}"}}'.encode()


def _tree_mistake(rng: Random, tree: Any, donor: Any) -> Any:
    places = [*_places(tree)]
    if not places:
        return rng.choice((tree, [], {}, None, 1))
    parent, key = rng.choice(places)
    match rng.randrange(9):
        case 0 | 1 | 2:
            parent[key] = _odd_value(rng, parent[key])
        case 3:
            parent.pop(key)
        case 4 if isinstance(parent, dict):
            parent[rng.choice((*TEXTS, *map(str, parent)))] = parent.pop(key)
        case 4 | 5 if isinstance(parent, list):
            parent.insert(rng.randrange(len(parent) + 1), parent[key])
        case 6:
            other, there = rng.choice(places)
            if isinstance(other[there], int | float | str | None):
                parent[key] = other[there]
        case _:
            taken = [*_places(donor)]
            if taken:
                other, there = rng.choice(taken)
                parent[key] = json.loads(json.dumps(other[there]))
    return tree


def _places(tree: Any, level: int = 0) -> Any:
    """Every (container, key) of a tree; of a long list of numbers only a few."""
    if level > 40 or not isinstance(tree, dict | list):
        return
    items = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree[:6]))
    for key, value in items:
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value, level + 1)


def _odd_value(rng: Random, value: Any) -> Any:
    match rng.randrange(8):
        case 0 | 1:
            return rng.choice(INTEGERS)
        case 2:
            return rng.choice(FLOATS)
        case 3:
            return rng.choice(TEXTS)
        case 4:
            return rng.choice((None, True, False, [], {}, [None], {"": 0}, [[]], 10**400, 10**30))
        case 5:
            return [value] * rng.choice((1, 2, 3, 9))
        case 6:
            for _ in range(rng.choice((2, 70, 300))):
                value = [value]
            return value
        case _:
            if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 2**64:
                return {"v": 1, "dim": [rng.choice(INTEGERS)], "data": [0.5]}
            return value + rng.choice((-1, 1, 0.5))


# archives --------------------------------------------------------------------------------------------------


def npz_members(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """An archive's arrays changed, and packed again with right checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, zlib.error, NotImplementedError, RuntimeError):
        members = {}
    if not members:
        return by_bytes(rng, data, others)
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice([*members])
        match rng.randrange(7):
            case 0:
                members[name] = by_bytes(rng, members[name], [*members.values()])
            case 1 | 2 | 3:
                members[name] = _npy_header(rng, members[name])
            case 4:
                members[name] = rng.choice([*members.values()])
            case 5:
                members[rng.choice((*members, "x_train.npy", "class_names.npy", "a", "../images.npy"))] = (
                    members.pop(name)
                )
            case _:
                members[name] += bytes(rng.choice((1, 1000, 10**5)))
    packed = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return packed.getvalue()


def _npy_header(rng: Random, member: bytes) -> bytes:
    """A .npy file with another type or shape, its header's length right."""
    header, _, body = member[10:].partition(b"\n")
    types = (
        b"|u1",
        b"<f4",
        b">f8",
        b"<i8",
        b"|b1",
        b"<U9",
        b"|O",
        b"<c8",
        b"<m8",
        b"|V3",
        b"<f2",
        b"<u8",
        b"|S0",
    )
    header = rng.choice(
        (
            lambda: re.sub(rb"'descr': '[^']*'", b"'descr': '%s'" % rng.choice(types), header),
            lambda: re.sub(rb"\d+", lambda m: str(abs(rng.choice(INTEGERS))).encode(), header),
            lambda: re.sub(rb"\(.*?\)", repr(_shape(rng)).encode(), header),
            lambda: header.replace(b"False", b"True"),
            lambda: by_bytes(rng, header, [header]),
        )
    )()
    header = header.rstrip() + b"\n"
    version = rng.choice((b"\x01\0", b"\x01\0", b"\x02\0", b"\x03\0"))
    size = struct.pack("<H" if version == b"\x01\0" else "<I", len(header) % 65536)
    return b"\x93NUMPY" + version + size + header + body


def _shape(rng: Random) -> tuple[int, ...]:
    sizes = (0, 1, 3, 8, 12, -1, 2**31, 2**62, 10**4)
    return tuple(rng.choice(sizes) for _ in range(rng.choice((0, 1, 2, 3, 4, 5, 40))))


# protocol buffers ------------------------------------------------------------------------------------------


def onnx_fields(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Fields of a model's messages changed, taken away, doubled or exchanged."""
    model, donor = onnx.ModelProto(), onnx.ModelProto()
    try:
        model.ParseFromString(data)
        donor.ParseFromString(rng.choice(others))
    except DecodeError:
        return by_bytes(rng, data, others)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        messages = [*_messages(model)]
        message = rng.choice(messages)
        fields = message.DESCRIPTOR.fields
        present = [field for field, _ in message.ListFields()]
        field = rng.choice(present if present and rng.random() < 0.8 else fields)
        _field_mistake(rng, message, field, messages, [*_messages(donor)])
    return model.SerializeToString()


def _messages(message: Message) -> Any:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in [value] if isinstance(value, Message) else list(value)[:30]:
                yield from _messages(item)


def _field_mistake(
    rng: Random, message: Message, field: Any, here: list[Message], there: list[Message]
) -> None:
    value = getattr(message, field.name)
    if field.message_type is not None:
        same = [m for m in (here if rng.random() < 0.5 else there) if m.DESCRIPTOR is field.message_type]
        copy = type(rng.choice(same))() if same else None
        if copy is not None:
            copy.CopyFrom(rng.choice(same))
        match rng.randrange(4):
            case 0:
                message.ClearField(field.name)
            case 1 if not isinstance(value, Message) and len(value):
                del value[rng.randrange(len(value))]
            case 2 if not isinstance(value, Message) and len(value) > 1:
                first, second = rng.randrange(len(value)), rng.randrange(len(value))
                kept = type(value[first])()
                kept.CopyFrom(value[first])
                value[first].CopyFrom(value[second])
                value[second].CopyFrom(kept)
            case _ if copy is not None:
                value.CopyFrom(copy) if isinstance(value, Message) else value.append(copy)
        return
    repeated = not isinstance(value, int | float | str | bytes)
    if rng.random() < 0.15:
        message.ClearField(field.name)
        return
    old = (rng.choice(value) if len(value) else None) if repeated else value
    new = _scalar(rng, field, old, here)
    try:
        if not repeated:
            setattr(message, field.name, new)
        elif len(value) and rng.random() < 0.7:
            value[rng.randrange(len(value))] = new
        elif len(value) and rng.random() < 0.5:
            del value[rng.randrange(len(value)) :]
        else:
            value.extend([new] * rng.choice((1, 1, 2, 40)))
    except (ValueError, TypeError):  # out of the field's range
        message.ClearField(field.name)


def _scalar(rng: Random, field: Any, old: Any, messages: list[Message]) -> Any:
    kinds = type(field)
    if field.cpp_type in (kinds.CPPTYPE_FLOAT, kinds.CPPTYPE_DOUBLE):
        return rng.choice(FLOATS)
    if field.type == kinds.TYPE_BYTES:
        return by_bytes(rng, old or b"\0\0\x80?", [old or b"\0"])
    if field.type == kinds.TYPE_STRING:
        texts = [
            text
            for m in messages
            for f, value in m.ListFields()
            if f.type == kinds.TYPE_STRING
            for text in ([value] if isinstance(value, str) else value)
        ]
        operators = ("Add", "MatMul", "Gemm", "Conv", "Concat", "Reshape", "Pad", "Tile", "Resize", "Softmax")
        odd = [text for text in TEXTS if text != "\ud800"]
        return rng.choice((rng.choice(texts or [""]), rng.choice(operators), rng.choice(odd)))
    number = rng.choice((*INTEGERS, *range(20)))
    return number if old is None or rng.random() < 0.7 else int(old) + rng.choice((-1, 1))


# pictures --------------------------------------------------------------------------------------------------


def png_chunks(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Chunks of a PNG changed, doubled, moved or taken away, each with its right CRC."""
    if not data.startswith(b"\x89PNG"):
        return by_bytes(rng, data, others)
    chunks, at = [], 8
    while at + 12 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not chunks:
            break
        index = rng.randrange(len(chunks))
        kind, body = chunks[index]
        match rng.randrange(6):
            case 0:
                chunks.insert(rng.randrange(len(chunks) + 1), (kind, body))
            case 1:
                del chunks[index]
            case 2 if kind == b"IDAT":
                try:
                    body = zlib.compress(by_bytes(rng, zlib.decompress(body), [body]))
                except zlib.error:
                    body = by_bytes(rng, body, [body])
                chunks[index] = (kind, body)
            case 3:
                kinds = (
                    b"IHDR",
                    b"PLTE",
                    b"tRNS",
                    b"IEND",
                    b"gAMA",
                    b"iCCP",
                    b"eXIf",
                    b"zTXt",
                    b"iTXt",
                    b"acTL",
                    b"fcTL",
                )
                chunks[index] = (rng.choice(kinds), body)
            case 4:
                name = rng.choice((b"zTXt", b"iCCP"))
                chunks.insert(1, (name, b"a\0\0" + zlib.compress(bytes(rng.choice((10, 10**6, 3 * 10**7))))))
            case _:
                chunks[index] = (kind, by_bytes(rng, body, [body]))
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return data[:8] + b"".join(parts)


def jpeg_segments(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Segments of a JPEG changed, doubled or taken away, each with its right length."""
    if not data.startswith(b"\xff\xd8"):
        return by_bytes(rng, data, others)
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (size,) = struct.unpack(">H", data[at + 2 : at + 4])
        segments.append((data[at + 1], data[at + 4 : at + 2 + size]))
        at += 2 + size
    rest = data[at:]
    if segments:
        index = rng.randrange(len(segments))
        marker, body = segments[index]
        match rng.randrange(4):
            case 0:
                segments.insert(rng.randrange(len(segments) + 1), (marker, body))
            case 1:
                del segments[index]
            case _:
                segments[index] = (marker, by_bytes(rng, body, [body])[:65000])
    parts = [bytes([0xFF, m]) + struct.pack(">H", len(body) + 2) + body for m, body in segments]
    return data[:2] + b"".join(parts) + rest
