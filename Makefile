# netfabric. As root on a fresh Debian or Ubuntu machine: `make lab` shows it, `make test` proves it.
#
#   make lab            install what is missing, bring the fabric up in network namespaces, show it working
#                       (LAB="--tor bird --racks 3" passes options on: see `.venv/bin/netlab up --help`)
#   make down           take the lab down again, without a trace
#   make test           every test; `make test-unit` those that need no root, in seconds
#   make test-vlan      only those of VLANs, which boot a guest whose kernel has 802.1Q
#   make test-engines   those with real container engines (Docker, podman, containerd): installs them from Debian's packages
#   make docker-plugin  the folder of Docker's managed plugin, for Swarm: build/docker-plugin
#   make check          ruff, mypy, import-linter, generated code is current
#   make bench          measure, side by side with Debian's CNI plugins
#   make proto          write the gRPC code again from proto/*.proto
#   make install        only install: Debian packages that are missing, .venv/, the CNI plugin

VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/pytest -q -rs
LAB    ?=
PROTOS := etcd fabric intent

.PHONY: install install-test install-engines lab down test test-unit test-netns test-vlan test-slow test-engines check bench \
        proto docker-plugin clean

install: $(VENV)/.lab
install-test: $(VENV)/.lab $(VENV)/.test
install-engines: install-test $(VENV)/.engines

# Each stamp stands for one run of the installer; it runs again when what it reads has changed.
$(VENV)/.lab: pyproject.toml tests/lab/install.sh agent/cni/shim.c
	tests/lab/install.sh lab
	@touch $@

$(VENV)/.test: pyproject.toml tests/lab/install.sh
	tests/lab/install.sh test
	@touch $@

$(VENV)/.engines: tests/lab/install.sh
	tests/lab/install.sh engines
	@touch $@

lab: install
	$(BIN)/netlab up $(LAB)

down:
	$(BIN)/netlab down

# Groups, from the fastest to the longest, so that what is simply wrong shows first.
test: test-unit test-netns test-vlan test-slow test-engines

test-unit: install-test
	$(PYTEST) -n 2 -m "not netns and not slow"

test-netns: install-test
	$(PYTEST) -n 2 --dist loadfile -m "netns and not slow and not vlan"

# VLANs, here and in a guest whose kernel has 802.1Q.
test-vlan: install-test
	timeout --kill-after=5 300 $(PYTEST) tests/netns/vlan

test-slow: install-test
	$(PYTEST) -n 2 --dist loadfile -m "slow and not engines and not vlan" --durations 15

# One after the other: how long a hundred containers take is part of what they say.
test-engines: install-engines
	$(PYTEST) -m engines tests/engines --durations 15

check: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	shellcheck tests/lab/*.sh .ci/run
	$(MAKE) --no-print-directory proto
	git diff --exit-code --stat proto

# The links below tests/typing make the package's name out of the folder's.
proto: install-test
	cd tests/typing && for name in $(PROTOS); do \
	  PATH="$(CURDIR)/$(BIN):$$PATH" python -m grpc_tools.protoc -I netfabric/proto=../../proto \
	    --python_out=. --mypy_out=quiet:. --grpc_python_out=. --mypy_grpc_out=quiet:. \
	    netfabric/proto/$$name.proto || exit; \
	done

docker-plugin: install
	$(BIN)/python -m netfabric.agent.cnm.plugin

bench: install-test
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) build dist *.egg-info
