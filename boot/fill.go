package boot

import (
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"vmm/memory"
)

// filler puts parts of files into guest memory, all of them at the same time.
type filler struct {
	mem    *memory.Guest
	pieces []piece
}

// piece is a part of a file to copy: size bytes from off on, to addr.
type piece struct {
	from  io.ReaderAt
	off   int64
	addr  uint64
	size  uint64
	named func(error) error // names the file in an error
}

// pieceSize is how much is copied at once, in bytes. The ends of pieces lie
// between huge pages, so that no two copies want the same.
const pieceSize = memory.HugePageSize

// add is to put n bytes at offset off of r to addr: mapped, where they are in a
// sealed file too and whole pages, and copied where not.
func (f *filler) add(addr uint64, r io.ReaderAt, sealed *os.File, off int64, n uint64, named func(error) error) error {
	if sealed != nil && addr%memory.PageSize == 0 && off%memory.PageSize == 0 {
		pages := n &^ (memory.PageSize - 1)
		if err := f.mem.MapFile(addr, sealed, off, pages); err != nil {
			return named(err)
		}
		addr, off, n = addr+pages, off+int64(pages), n-pages
	}
	if _, err := f.mem.Slice(addr, n); err != nil {
		return named(err)
	}
	if n >= memory.HugePageSize/2 {
		f.mem.Fill(addr, n)
	}
	for n > 0 {
		size := min(n, pieceSize-addr%pieceSize)
		f.pieces = append(f.pieces, piece{r, off, addr, size, named})
		addr, off, n = addr+size, off+int64(size), n-size
	}
	return nil
}

// run copies what there is to copy.
func (f *filler) run() error {
	return parallel(len(f.pieces), func(i int) error {
		p := f.pieces[i]
		dst, err := f.mem.Slice(p.addr, p.size)
		if err == nil {
			_, err = io.ReadFull(io.NewSectionReader(p.from, p.off, int64(p.size)), dst)
		}
		if err != nil {
			return p.named(err)
		}
		return nil
	})
}

// maxWorkers bounds how many processors share a piece of work. Copying is limited by
// memory, which two or three keep busy.
const maxWorkers = 3

// parallel calls do for 0 to n-1, on several processors where there are, and
// returns the first error it gets.
func parallel(n int, do func(i int) error) error {
	var next atomic.Int64
	var once sync.Once
	var first error
	work := func() {
		for {
			i := int(next.Add(1) - 1)
			if i >= n {
				return
			}
			if err := do(i); err != nil {
				once.Do(func() { first = err })
				next.Store(int64(n)) // no more
			}
		}
	}
	var workers sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0), maxWorkers) - 1 {
		workers.Go(work)
	}
	work()
	workers.Wait()
	return first
}
