package attack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stalling is a file system with one file, "a", of 2 MiB, whose server stops to answer
// when it is told to: what a disk on a dead server is like. It speaks FUSE,
// include/uapi/linux/fuse.h. A request that the server has not taken keeps a thread
// asleep, and lets it be killed.
type stalling struct {
	dir     string
	fd      int
	stalled atomic.Bool
	done    chan struct{}
}

const stallingSize = 2 << 20

// newStalling mounts one. It takes root.
func newStalling(t *testing.T) *stalling {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		s := &stalling{dir: t.TempDir(), fd: fd, done: make(chan struct{})}
		if err = unix.Mount("stalling", s.dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err == nil {
			go s.serve()
			t.Cleanup(func() {
				s.stall()
				_ = unix.Unmount(s.dir, unix.MNT_DETACH)
				unix.Close(fd) // what waits for an answer has an error now
			})
			return s
		}
		unix.Close(fd)
	}
	if os.Getenv("VMM_REQUIRE_KVM") != "" && !errors.Is(err, os.ErrPermission) {
		t.Fatal("FUSE:", err)
	}
	t.Skip("FUSE:", err)
	return nil
}

// stall has the server answer nothing more.
func (s *stalling) stall() {
	s.stalled.Store(true)
	<-s.done
}

// asked waits until a thread of a process waits for an answer.
func (s *stalling) asked(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		where, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", pid))
		for _, path := range where {
			if function, _ := os.ReadFile(path); string(function) == "request_wait_answer" {
				return
			}
		}
	}
	t.Fatal("nobody asks for a file")
}

// serve answers requests. It takes none that it does not answer.
func (s *stalling) serve() {
	defer close(s.done)
	request := make([]byte, 1<<20)
	for !s.stalled.Load() {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, 10); n <= 0 && (err == nil || err == unix.EINTR) {
			continue
		}
		n, err := unix.Read(s.fd, request)
		if err == unix.EAGAIN || err == unix.ENOENT || err == unix.EINTR {
			continue
		}
		if err != nil {
			return // unmounted
		}
		_, _ = unix.Write(s.fd, s.answer(request[:n]))
	}
}

// Opcodes.
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opOpen        = 14
	opRead        = 15
	opStatfs      = 17
	opRelease     = 18
	opInit        = 26
	opOpendir     = 27
	opReaddir     = 28
	opReleasedir  = 29
	opInterrupt   = 36
	opBatchForget = 42
)

func (s *stalling) answer(request []byte) []byte {
	le := binary.LittleEndian
	opcode, unique, node := le.Uint32(request[4:]), le.Uint64(request[8:]), le.Uint64(request[16:])
	body := request[40:]
	var out bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&out, le, v)
		}
	}
	attr := func(node uint64) {
		mode, size := uint32(unix.S_IFDIR|0o755), uint64(0)
		if node != 1 {
			mode, size = unix.S_IFREG|0o644, stallingSize
		}
		put(node, size, size/512, [3]uint64{}, [3]uint32{}, mode, uint32(1), [3]uint32{}, uint32(4096), uint32(0))
	}
	errno := syscall.Errno(0)
	switch opcode {
	case opInit:
		put(uint32(7), uint32(31), uint32(0), uint32(0), uint16(16), uint16(16), uint32(1<<17), uint32(1), [9]uint32{})
	case opLookup:
		if string(bytes.TrimRight(body, "\x00")) != "a" {
			errno = syscall.ENOENT
			break
		}
		put(uint64(2), uint64(0), uint64(3600), uint64(3600), uint64(0))
		attr(2)
	case opGetattr:
		put(uint64(3600), uint64(0))
		attr(node)
	case opOpen, opOpendir:
		put(uint64(1), uint32(1|1<<5), uint32(0)) // FOPEN_DIRECT_IO, FOPEN_NOFLUSH
	case opRead:
		offset, size := le.Uint64(body[8:]), uint64(le.Uint32(body[16:]))
		out.Write(make([]byte, min(size, stallingSize-min(offset, stallingSize))))
	case opStatfs:
		put([10]uint64{})
	case opReaddir, opRelease, opReleasedir: // a folder seems empty
	case opForget, opBatchForget, opInterrupt:
		return nil
	default:
		errno = syscall.ENOSYS
	}
	head := binary.LittleEndian.AppendUint32(nil, uint32(16+out.Len()))
	head = le.AppendUint32(head, uint32(-int32(errno)))
	head = le.AppendUint64(head, unique)
	return append(head, out.Bytes()...)
}

// stopFor is what vmm waits for a device that does not stop, unless it is told again.
const stopFor = time.Second

// A machine whose disk or share does not answer ends all the same, whoever asks: in
// two seconds, with a last line that says what did not stop.
func TestEndsWhileStalled(t *testing.T) {
	needKVM(t)
	// again sends a signal until vmm has ended.
	again := func(s syscall.Signal) func(*machine) {
		return func(m *machine) {
			for m.signal(s) == nil {
				time.Sleep(200 * time.Millisecond)
			}
		}
	}
	ways := []struct {
		name   string
		end    func(*machine)
		status int
		within time.Duration
	}{
		{"SIGTERM", func(m *machine) { _ = m.signal(syscall.SIGTERM) }, 143, endWithin},
		{"SIGTERM again", again(syscall.SIGTERM), 143, stopFor},
		{"SIGINT again", again(syscall.SIGINT), 130, stopFor},
		{"ctl stop", func(m *machine) { _, _ = m.command("ctl", m.control, "stop") }, 1, endWithin},
		{"power-off", func(m *machine) { _, _ = m.input.Write([]byte("x")) }, 1, endWithin},
		{"timeout", nil, 124, endWithin},
	}
	for _, device := range []struct{ name, guest, flag, part string }{
		{"disk", "reads", "--disk=path=DIR/a,format=raw,ro", "virtio-blk0"},
		{"disk past the cache", "reads", "--disk=path=DIR/a,format=raw,ro,cache=none", "virtio-blk0"},
		{"share", "p9", "--share=path=DIR,tag=x", "virtio-9p0"},
	} {
		for _, way := range ways {
			if way.name == "power-off" && device.guest != "reads" {
				continue
			}
			t.Run(device.name+"/"+way.name, func(t *testing.T) {
				t.Parallel()
				files := newStalling(t)
				flag := string(bytes.ReplaceAll([]byte(device.flag), []byte("DIR"), []byte(files.dir)))
				args := []string{"--kernel", assemble(t, device.guest, "-DPCI"), "--boot-protocol", "pvh", "--memory", "64M", "--transport", "pci", "--rng=false", flag}
				if way.end == nil {
					args = append(args, "--timeout", "6s")
				}
				m := start(t, args...)
				m.await(t, "A")
				m.await(t, ".")
				files.stall()
				files.asked(t, m.Process.Pid)
				if way.end != nil {
					way.end(m)
				}
				status := m.end(t, endTime)

				if status != way.status {
					t.Errorf("status %d; want %d", status, way.status)
				}
				r := m.report(t)
				if took := time.Duration(r.EndSeconds * float64(time.Second)); took > way.within || took == 0 {
					t.Errorf("it took %v to end; want %v at the most", took, way.within)
				}
				if !bytes.Contains([]byte(r.Message), []byte(device.part)) {
					t.Errorf("the last line is %q; it does not name %s", r.Message, device.part)
				}
				t.Logf("after %.2f s: %s", r.EndSeconds, r.Message)
			})
		}
	}
}
