"""Messages to bytes and back: msgpack, a tagged union for each direction."""

import msgspec

from nacre.protocol.messages import FromApi, FromNode

FRAME_BYTES_MAX = 64 * 1024 * 1024
"""The largest frame either side accepts."""

_encoder = msgspec.msgpack.Encoder()
_from_api = msgspec.msgpack.Decoder(FromApi)
_from_node = msgspec.msgpack.Decoder(FromNode)


def encode(message: FromApi | FromNode) -> bytes:
    return _encoder.encode(message)


def decode_from_api(frame: bytes) -> FromApi:
    """Raises msgspec.DecodeError (or its ValidationError) on a frame that is not a message of the API's."""
    message: FromApi = _from_api.decode(frame)
    return message


def decode_from_node(frame: bytes) -> FromNode:
    """Raises msgspec.DecodeError (or its ValidationError) on a frame that is not a message of a node's."""
    message: FromNode = _from_node.decode(frame)
    return message
