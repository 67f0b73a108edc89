"""Follow every change of intent; begin again where the connection broke."""

import sys

import grpc

from netfabric.proto import intent_pb2 as pb
from netfabric.proto.intent_pb2_grpc import IntentStub

AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
request = pb.WatchRequest()
with grpc.insecure_channel(sys.argv[1]) as channel:
    while True:
        try:
            for message in IntentStub(channel).Watch(request, wait_for_ready=True):
                for change in message.changes:
                    what = change.object.WhichOneof("spec") or "gone"
                    print(pb.Kind.Name(change.kind), change.key, what, flush=True)
                if message.HasField("version"):
                    request.since.CopyFrom(message.version)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                request.ClearField("since")  # that history is gone: everything anew
            elif error.code() not in AGAIN:
                raise
