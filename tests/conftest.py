"""What holds for every test: agents that tests start don't serve the machine's own Docker."""

import os

os.environ.setdefault("NETPLUGIN_CNM_SOCKET", "none")
