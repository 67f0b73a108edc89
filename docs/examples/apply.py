"""Several objects in one transaction, first as a dry run; what refuses them, and what to do about it."""

import sys

import grpc

from netfabric.proto import intent_pb2 as pb
from netfabric.proto.intent_pb2_grpc import IntentStub

tenant = pb.TenantSpec(tenant_name="shop")
web = pb.NetworkSpec(tenant_name="shop", network_name="web", subnet="10.2.0.0/24")
objects = [pb.Object(network=web), pb.Object(tenant=tenant)]  # in any order
with grpc.insecure_channel(sys.argv[1]) as channel:
    try:
        for dry_run in (True, False):
            done = IntentStub(channel).Apply(pb.ApplyRequest(objects=objects, dry_run=dry_run))
            print([pb.Outcome.Name(result.outcome) for result in done.results])
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
