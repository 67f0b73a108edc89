"""Print the routes of the fabric, and follow them."""

import sys

import grpc

from netfabric.proto import fabric_pb2 as pb
from netfabric.proto.fabric_pb2_grpc import RoutesStub
from netfabric.proto.routes import unpack

with grpc.insecure_channel(sys.argv[1]) as channel:
    for batch in RoutesStub(channel).Watch(pb.RouteFilter()):
        routes, gone = unpack(batch)
        for route in routes:
            print("+", route.prefix, route.origin, route.host, *route.next_hops, flush=True)
        for route in gone:
            print("-", route.prefix, route.origin, route.host, flush=True)
