"""An agent's start on a real host: ground, datapath, monitor, and the event loop."""

import asyncio
from functools import partial

from netfabric.agent.agent import Agent
from netfabric.agent.datapath.datapath import RoutedDatapath
from netfabric.agent.datapath.monitor import Monitor
from netfabric.agent.ground import Ground, stand, take_directories
from netfabric.agent.settings import Settings


def start(settings: Settings) -> None:
    """Run an agent until it is told to stop; raise a FabricError where it cannot begin."""
    take_directories(settings)
    datapath = RoutedDatapath()
    try:
        asyncio.run(_run(stand(settings, datapath), datapath.port))
    finally:
        datapath.close()


async def _run(ground: Ground, port: int) -> None:
    await Agent(ground, partial(Monitor, own=(port,))).run()
