# Targets for people: "make help" lists them.

SHELL := /bin/bash
export CGO_ENABLED = 0
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo devel)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
UNIT := $(shell go list ./... | grep -v -e /tests/system -e /tests/unikernel -e /tests/bench/suite)
# Those with concurrency of their own are tested with the race detector.
RACE := $(shell go list -f '{{$$p := .ImportPath}}{{range .Imports}}{{if eq . "sync" "sync/atomic"}}{{$$p}} {{end}}{{end}}' $(UNIT))
FUZZTIME ?= 10s

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# disablethp: Go's heap is a megabyte, of which huge pages would make four.
# -E: cmd/internal/start has to look at the process before Go's runtime does.
LDFLAGS := -s -w -X main.version=$(VERSION) -X runtime.godebugDefault=disablethp=1 $(if $(filter amd64,$(shell go env GOARCH)),-E vmm_entry)

.PHONY: build
build: ## build the static binaries bin/vmm, bin/vmm-tools and bin/vmm-init
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/vmm ./cmd/vmm-tools
	go build -trimpath -ldflags '-s -w' -o bin/vmm-init ./guest-images/init

.PHONY: packages
packages:
	@guest-images/packages gcc libc6-dev musl-tools dpkg-dev linux-libc-dev acpica-tools cpio kmod xz-utils busybox-static qemu-system-x86 qemu-utils strace util-linux iproute2 gdb zstd lz4 lzop bzip2 \
	  e2fsprogs iperf3 iputils-ping openssh-client git curl

.PHONY: demo
demo: packages build ## boot Debian's kernel, look around inside, power off
	@guest-images/boot --append vmm.do=info </dev/null

.PHONY: shell
shell: packages build ## boot Debian's kernel to a shell (Ctrl-A x ends it)
	@guest-images/boot

.PHONY: guest-debian
guest-debian: packages build ## make a Debian 12 image with systemd, networkd and sshd (cached)
	@guest-images/debian/build

.PHONY: app
app: ## build the REST service in Go and in C (cached)
	@guest-images/app/build go
	@guest-images/app/build c

.PHONY: unikernel
unikernel: ## build the REST service as a unikernel (cached)
	@guest-images/unikernel/build

.PHONY: guest-kernel
guest-kernel: packages ## make the two kernels for virtual machines, tiny and full (cached)
	@guest-images/kernel/build tiny
	@guest-images/kernel/build full

.PHONY: test
test: test-units test-system ## run the tests: units and tiny guests here, whole systems here or in the lab

.PHONY: test-units
test-units: packages build ## units and tiny guests, with the race detector where there is concurrency
	@guest-images/packages chromium runc crun erofs-utils
	CGO_ENABLED=1 go test -race $(sort $(RACE))
	go test $(filter-out $(RACE),$(UNIT))
# The memory and the address space of a process, which the race detector multiplies.
	go test -run 'TestTenThousandConnections|TestScripts/bad_flags' ./netdev/usernet ./cmd/vmm
	go test -tags solutions ./examples/...
	go test -run 'TestSize|TestMemory|TestAddress|TestEnd|TestCurl|TestHalf' ./tests/unikernel

.PHONY: test-system
test-system: packages build ## whole systems, here or in the lab
	tests/system/run

.PHONY: check
check: packages build ## formatting, vet, staticcheck, arm64 build, a little fuzzing
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	go vet ./... && go vet -tags lab ./bench
	go run $(STATICCHECK) ./...
	cd guest-images/initramfs && go vet ./...
	GOARCH=arm64 go build ./...
	tests/fuzz $(FUZZTIME)

# Lesson 3 is 03.
lesson-%-check: ## check the exercises of a lesson, by number: make lesson-3-check
	@n='$*'; [ $${#n} -gt 1 ] || n=0$$n; ls -d examples/$$n-* >/dev/null 2>&1 || { echo 'there is no lesson $*: choose one from 1 to 10' >&2; exit 2; }; \
	  set -x; go test -count=1 -tags lesson ./examples/$$n-*/exercise

# The race detector makes everything slower: what the tests allow is with it.
ATTACK ?= 5m
.PHONY: attack
attack: packages ## hostile guests and drivers for minutes, under the race detector: make attack [ATTACK=5m]
	VMM_ATTACK=$(ATTACK) CGO_ENABLED=1 go test -race -count=1 -timeout 2h -v ./tests/attack
	VMM_ATTACK=$(ATTACK) CGO_ENABLED=1 go test -race -count=1 -timeout 2h -v -run TestAttack ./share/ninep ./devices/virtio/p9

.PHONY: lab
lab: packages build ## run a command on a KVM host in software: make lab CMD='bin/vmm doctor'
	@tests/lab/lab $(if $(CMD),'$(subst ','\'',$(CMD))',bash)

.PHONY: lab-counts
lab-counts: packages build ## count the starts that are lost in the lab: 900, and 50 rounds of ten at once; hours
	@tests/lab/counts

.PHONY: lab-neighbours
lab-neighbours: packages build ## what idle machines take of the lab, and a start beside ten: vmm's and QEMU's
	@tests/lab/neighbours

.PHONY: lab-intel
lab-intel: packages build ## the same on an Intel host, with bin/ and nothing else of this machine in it
	@tests/lab-intel/lab -f bin $(LAB_FLAGS) '$(subst ','\'',$(CMD))'

PARTS ?= smoke machine linux devices
.PHONY: test-intel
test-intel: packages build ## the tests of VT-x, on an emulated Intel host: half an hour, or PARTS=smoke for some minutes
	tests/lab-intel/suite $(PARTS)

SOAK ?= 500
.PHONY: soak
soak: packages build ## end tiny guests in each way, SOAK times; boot Linux 50 times, 20 more for random addresses, and paste a mebibyte
	go test -c -o bin/soak.test ./cmd/vmm
	cd cmd/vmm && VMM_SOAK=$(SOAK) VMM_BIN=$(CURDIR)/bin/vmm unshare --net $(CURDIR)/bin/soak.test -test.v -test.run TestSoakEnds -test.timeout 2h
	SOAK=50 LAB_TIMEOUT=5400 tests/system/run -test.v -test.run 'TestSoak|TestInput|TestKASLR' -test.timeout 80m

.PHONY: test-devices
test-devices: packages build ## what make test leaves out: the unikernel under load; disks, networks, shares, Debian, ... in the lab
	go test ./tests/unikernel
	LAB_FLAGS='-s 1' LAB_TIMEOUT=7200 tests/system/run -test.run . -test.timeout 110m

.PHONY: test-resets
test-resets: ## reset each device 10,000 times with requests in flight, under the race detector
	CGO_ENABLED=1 VMM_RESETS=10000 go test -race -count 1 -v -run 'TestResets?InFlight|TestResetWhileBusy' -timeout 2h \
	  ./devices/virtio/virtiotest ./devices/virtio/net ./devices/virtio/p9 ./devices/virtio/vsock

# Not part of make test: with other work on a machine of two processors it takes
# twenty minutes.
.PHONY: test-bench
test-bench: packages build ## the whole of make bench as a test, and what it leaves on a host, in the lab
	@guest-images/packages runc crun podman golang-github-containers-common
	tests/bench/suite/run

.PHONY: test-disassembly
test-disassembly: ## compare the disassembly of a whole kernel with objdump's: minutes
	@guest-images/packages binutils
	VMM_VMLINUX=$$(guest-images/kernel/build tiny)/vmlinux go test -v -count=1 -run TestObjdumpKernel ./trace

.PHONY: test-io
test-io: packages build ## the tests of networks with a gibibyte each, which take the lab long
	FULL=1 LAB_TIMEOUT=7200 tests/system/run -test.v -test.run 'TestTap|TestUserNetwork' -test.timeout 110m

.PHONY: bench-start
bench-start: packages build ## time from exec of vmm to a guest's first exit, beside C and QEMU
	VMM_BIN=$(CURDIR)/bin/vmm BENCH_OUT=$(BENCH_OUT) go test -run '^$$' -bench 'Start|Exit' -benchtime 100x ./tests/bench

.PHONY: bench-load
bench-load: packages build ## time from exec of vmm until a kernel runs: make bench-load KERNEL=FILE [INITRD=FILE]
	VMM_BIN=$(CURDIR)/bin/vmm BENCH_OUT=$(BENCH_OUT) VMM_KERNEL_FILE=$(abspath $(KERNEL)) VMM_INITRD_FILE=$(abspath $(INITRD)) \
	  go test -run '^$$' -bench Load -benchtime 100x -timeout 30m ./tests/bench

.PHONY: bench-io
bench-io: packages build ## disks and networks of a guest beside QEMU's microvm, in the lab
	BENCH_OUT=$(BENCH_OUT) tests/bench/io/run

.PHONY: bench-assets
bench-assets: packages build ## build what 'vmm bench' starts: applications, kernel, unikernel, Debian (cached)
	@guest-images/packages cpio mmdebstrap e2fsprogs
	@guest-images/bench distro

.PHONY: bench-archive
bench-archive: packages build ## the same without Debian as bin/bench-assets.tar.gz, for 'vmm bench install' elsewhere
	@guest-images/bench archive bin/bench-assets.tar.gz

.PHONY: bench
bench: packages build ## measure virtual machines against containers and unikernels: the quick suite
	@guest-images/packages runc crun golang-github-containers-common
	@bench/quick

.PHONY: bench-boot
bench-boot: packages build ## race vmm, QEMU, gokvm and others on PATH to init, in the lab (BENCH_OUT=DIR keeps the results)
	@tests/bench/race/run $(BENCH_OUT)

RELEASE ?= bin/release
.PHONY: release
release: ## make a tarball and a Debian package in bin/release, twice, and compare them
	@guest-images/packages dpkg-dev xz-utils
	@release/build $(RELEASE)
	@again=$$(mktemp -d) && trap 'rm -rf "$$again"' EXIT && release/build "$$again" >/dev/null && \
	  for f in "$$again"/*; do cmp "$$f" "$(RELEASE)/$${f##*/}" || exit 1; done && echo 'two builds are identical'

.PHONY: module
module: ## give the Go module another path, for go install: make module MODULE=example.com/you/vmm
	release/module $(MODULE)

.PHONY: clean
clean: ## remove what was built here (the cache stays)
	rm -rf bin
