// Serve serves a folder over a unix socket with vmm's file server, for one client:
// a Linux that mounts it with trans=unix instead of virtio.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"vmm/share"
	"vmm/share/ninep"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: serve FOLDER SOCKET")
		os.Exit(2)
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
}

func serve(path, socket string) error {
	folder, err := share.Open(path, false, share.NewBudget())
	if err != nil {
		return err
	}
	server := ninep.New(folder)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	client, err := listener.Accept()
	if err != nil {
		return err
	}
	buffers := sync.Pool{New: func() any { return new([1 << 20]byte) }}
	for {
		size := make([]byte, 4)
		if _, err := io.ReadFull(client, size); err != nil {
			break
		}
		message := make([]byte, max(7, min(binary.LittleEndian.Uint32(size), 2<<20)))
		copy(message, size)
		if _, err := io.ReadFull(client, message[4:]); err != nil {
			break
		}
		answer := buffers.Get().(*[1 << 20]byte)
		server.Handle([][]byte{message}, [][]byte{answer[:]}, false, func(n int) {
			client.Write(answer[:n])
			buffers.Put(answer)
		})
	}
	server.Reset()
	return server.Close()
}
