"""Make a network, and list those of its tenant."""

import sys

import grpc

from netfabric.proto import intent_pb2 as pb
from netfabric.proto.intent_pb2_grpc import IntentStub

with grpc.insecure_channel(sys.argv[1]) as channel:
    intent = IntentStub(channel)
    blue = pb.NetworkSpec(tenant_name="default", network_name="blue", subnet="10.1.0.0/16")
    intent.Put(pb.PutRequest(object=pb.Object(network=blue)))
    for found in intent.List(pb.ListRequest(kind=pb.KIND_NETWORK, tenant="default")).objects:
        print(found.key, found.network.subnet, found.revision)
