"""Keys, ranges, entries and transactions in etcd's messages."""

from collections.abc import Sequence

from netfabric.api.store.base import Compare, Delete, Entry, Put
from netfabric.proto import etcd_pb2 as pb


def prefix_range(prefix: str) -> tuple[bytes, bytes]:
    """Return the range (first, end) of all keys that start with `prefix`; zero bytes stand for everything."""
    first = prefix.encode()
    stem = first.rstrip(b"\xff")
    if not stem:
        return first or b"\0", b"\0"
    return first, stem[:-1] + bytes([stem[-1] + 1])


def entry_of(found: pb.KeyValue) -> Entry:
    """Return an entry; all our keys are text."""
    return Entry(
        found.key.decode(), found.value, found.mod_revision, found.create_revision, found.lease
    )


def txn_of(compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> pb.TxnRequest:
    """Return the transaction. Where it fails, the compared keys come back, to say which one was stale."""
    return pb.TxnRequest(
        compare=[
            pb.Compare(
                key=compare.key.encode(),
                result=pb.Compare.EQUAL,
                target=pb.Compare.MOD,
                mod_revision=compare.revision,
            )
            for compare in compares
        ],
        success=[_operation(operation) for operation in operations],
        failure=[
            pb.RequestOp(request_range=pb.RangeRequest(key=compare.key.encode(), keys_only=True))
            for compare in compares
        ],
    )


def _operation(operation: Put | Delete) -> pb.RequestOp:
    key = operation.key.encode()
    if isinstance(operation, Put):
        put = pb.PutRequest(key=key, value=operation.value, lease=operation.lease)
        return pb.RequestOp(request_put=put)
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))


def changed(answer: pb.TxnResponse) -> bool:
    """Return whether a transaction that succeeded changed anything, and so has a revision of its own."""
    return any(
        part.WhichOneof("response") == "response_put" or part.response_delete_range.deleted
        for part in answer.responses
    )


def stale_key(answer: pb.TxnResponse, compares: Sequence[Compare]) -> str:
    """Return the first key whose revision is not the one compared with."""
    for compare, part in zip(compares, answer.responses, strict=True):
        found = part.response_range.kvs
        if (found[0].mod_revision if found else 0) != compare.revision:
            return compare.key
    return ""
