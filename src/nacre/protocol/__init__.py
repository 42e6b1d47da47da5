"""What the control plane and a node say to each other. Both sides import this package and nothing of each other.

A node dials any API process and keeps one WebSocket open (binary frames, msgpack). Both sides are level-triggered:

    node                                  API process
    Hello(host, versions, facts)   ->
                                   <-     Welcome(version, cloud) or Refuse(reason)
    Examined(cause)                ->                               (where Welcome asked for it)
    Fetch(since=0)                 ->
                                   <-     Desired(revision=17, full=True, items, gone)
    Report(number, observations)   ->                               (batched, repeated in full after a reconnect)
                                   <-     Recorded(number)         (what is gone need not be repeated)
                                   <-     Desired(revision=18, items, gone)   (what changed, sent along as it does)
                                   <-     Changed(revision=19)      (or only a hint; it may be lost)
    Fetch(since=18)                ->
                                   <-     Dial(stream, kind, id)    (the node answers on /streams/{stream}, see `streams`)
    Beat(counter, facts)           ->
                                   <-     Renewed(counter)         (the host's lease, see docs/decisions/0030)

A lost message costs a retry: the node fetches again every few seconds, and repeats its observations when it reconnects.
Nothing here carries a host path or a device of the host, but where the host's own root consents for a project
(`containers.Container.host_access`).
"""

from nacre.protocol.frames import decode_from_api, decode_from_node, encode
from nacre.protocol.messages import (
    Beat,
    Changed,
    Desired,
    Dial,
    Examined,
    Fetch,
    FromApi,
    FromNode,
    Hello,
    Item,
    Kind,
    Observation,
    Recorded,
    Refuse,
    Renewed,
    Report,
    Welcome,
)
from nacre.protocol.versions import PROTOCOL_MAX, PROTOCOL_MIN, agree

__all__ = [
    "PROTOCOL_MAX",
    "PROTOCOL_MIN",
    "Beat",
    "Changed",
    "Desired",
    "Dial",
    "Examined",
    "Fetch",
    "FromApi",
    "FromNode",
    "Hello",
    "Item",
    "Kind",
    "Observation",
    "Recorded",
    "Refuse",
    "Renewed",
    "Report",
    "Welcome",
    "agree",
    "decode_from_api",
    "decode_from_node",
    "encode",
]
