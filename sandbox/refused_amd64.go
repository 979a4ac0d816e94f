package sandbox

//lint:file-ignore U1000 refused_amd64.s uses the variables

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// refused is in refused_amd64.s; refusedAddress is where.
func refusedAddress() uintptr

// What the handler of SIGSYS uses, which runs outside of Go: where it says what was
// refused; and what it says to standard error, with a name in the middle, when nobody
// listens.
var (
	refusalPipe   int
	refusalStatus = 1
	maxCall       = len(names)
	refusalBegins = "vmm: " + refusalBefore
	refusalEnds   = refusalAfter + "\n"
)

// refusals are made once.
var refusals = sync.OnceValues(func() (<-chan string, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	refusalPipe = int(w.Fd())
	keep = w
	refused := make(chan string, 1)
	go func() {
		defer r.Close()
		var record [32]byte
		if n, _ := r.Read(record[:]); n == len(record) {
			refused <- describe(&record)
		}
	}()
	return refused, nil
})

// keep keeps a file open that only its number leads to.
var keep *os.File

// Refusals is where the first call that the filter refuses is described. The thread
// that made it does not go on. The process should say so and end, with status 1, and
// within two seconds: then it is ended, with Refusal's message.
func Refusals() (refused <-chan string, err error) { return refusals() }

// describe says what the handler has found: a number and three arguments.
func describe(record *[32]byte) string {
	word := func(i int) uint64 { return binary.NativeEndian.Uint64(record[8*i:]) }
	name := Name(uintptr(word(0)))
	if name == "ioctl" { // the request says more than the rest
		return fmt.Sprintf("ioctl %#x", uint32(word(2)))
	}
	var args []string
	for i := 1; i <= 3; i++ {
		args = append(args, fmt.Sprintf("%#x", word(i)))
	}
	return name + "(" + strings.Join(args, ", ") + ", ...)"
}

// catchRefusals has SIGSYS handled. Go's runtime, which would crash at it, is not
// asked: it may be in the middle of anything.
func catchRefusals() error {
	if _, err := refusals(); err != nil {
		return err
	}
	if err := handle(unix.SIGSYS, refusedAddress()); err != nil {
		return fmt.Errorf("seccomp: SIGSYS: %w", err)
	}
	return nil
}
