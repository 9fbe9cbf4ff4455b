# Two commands for a newcomer: `make demo` and `make test`. Both run as root on
# Debian 12 with Go and install the Debian packages they need.

SHELL    := /bin/bash
PREFIX   ?= /usr/local
CNI_BIN  ?= /opt/cni/bin
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOFLAGS  := -trimpath
LDFLAGS  := -s -w
export CGO_ENABLED := 0

# What the tests and the demo read the kernel with; the product needs none of it.
# Debian has two packages of busybox that exclude each other: the one there is stays.
PACKAGES := $(if $(shell command -v busybox),,busybox) containernetworking-plugins curl iproute2 nftables procps
# What tests live with and benchmarks compare to. They start dockerd themselves,
# in namespaces; where systemd runs, the packages docker.io and firewalld start one too.
PEERS    := conntrack containerd dbus dnsmasq-base dnsperf docker-compose docker.io etcd-client etcd-server firewalld gcc iptables isc-dhcp-server libc6-dev lxc openvswitch-switch podman systemd-container ufw

# A second kernel, with the features that small machines' kernels lack.
MACHINE  := linux-image-amd64 qemu-system-x86

test bench: PACKAGES += $(PEERS)
test test-vm bench: PACKAGES += $(MACHINE)
bench: PACKAGES += ipvsadm

.PHONY: help build install uninstall demo test test-vm pure bench packages clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

build: ## bin/sealane (client), bin/sealane-cni (CNI plugin) and bin/sealaned (daemon), static
	go build $(GOFLAGS) -ldflags '$(LDFLAGS) -X main.version=$(VERSION)' -o bin/ ./cmd/sealane ./cmd/sealane-cni ./cmd/sealaned

install: build ## into PREFIX (/usr/local) and CNI_BIN (/opt/cni/bin), with a systemd service and socket
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin bin/sealane bin/sealane-cni bin/sealaned
	@p=$(DESTDIR)$(PREFIX)/bin/pipework; \
	if [ -n "$(INSTALL_PIPEWORK)" ] || [[ $$(readlink $$p) =~ ^sealane(-cni)?$$ ]] || ! [ -e $$p -o -L $$p ]; then ln -sf sealane-cni $$p; \
	  else echo 'pipework is there already and stays: INSTALL_PIPEWORK=1 replaces it'; fi
	install -d $(DESTDIR)$(CNI_BIN)
	ln -sf $(PREFIX)/bin/sealane-cni $(DESTDIR)$(CNI_BIN)/sealane-cni
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/sealane init/10-sealane.conflist
	install -d $(DESTDIR)/etc/systemd/system
	for unit in sealane.service sealane.socket sealane-docker.socket; do \
	  sed 's|@PREFIX@|$(PREFIX)|' init/$$unit > $(DESTDIR)/etc/systemd/system/$$unit; done
	@echo 'Start it with: systemctl daemon-reload && systemctl enable --now sealane.socket sealane.service, on a host with Docker sealane-docker.socket too'

uninstall: ## takes back what install did; stop the service first
	rm -f $(DESTDIR)$(PREFIX)/bin/sealane{,d,-cni} $(DESTDIR)$(CNI_BIN)/sealane-cni $(DESTDIR)/etc/systemd/system/{sealane.service,sealane.socket,sealane-docker.socket}
	rm -rf $(DESTDIR)$(PREFIX)/share/sealane
	if [[ $$(readlink $(DESTDIR)$(PREFIX)/bin/pipework) =~ ^sealane(-cni)?$$ ]]; then rm $(DESTDIR)$(PREFIX)/bin/pipework; fi

demo: packages build ## the main job, shown; KEEP=1 leaves it up
	@KEEP=$(KEEP) bash test/demo.sh

test: packages build ## everything, on the real kernel
	go vet ./...
	REQUIRE=nftables,holds,nsid,ipv6,br_netfilter,veth,bridge go test -count=1 -timeout 30m $$(go list ./... | grep -v /test/vm$$)
	go test -count=1 -timeout 30m ./test/vm

test-vm: packages ## what needs features of another kernel, on Debian's in qemu
	go test -count=1 -timeout 30m -v ./test/vm

pure: ## only what needs no root
	go test ./internal/model ./internal/kstate ./internal/ipam ./internal/compile ./internal/engine ./internal/store ./internal/style ./internal/cli ./internal/cni ./internal/api/...

bench: packages build ## paired benchmarks, a table at the end
	go run ./bench

packages:
	@missing=$$(for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; fi

clean: ## remove bin/
	rm -rf bin
