// Rest is the REST service of T. Goethals et al., "Unikernels vs Containers"
// (IEEE SC2 2018), as one writes it in Go. It answers with the same bytes as the
// one in C beside it.
//
//	rest [PORT [SECONDS]]
//
// SECONDS is how long a client may take for a request and for reading its
// response. It also runs as the first process of a container, or of a machine,
// which it then switches off when it is told to end.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("rest: ")
	port, timeout := 8080, 60
	for i, setting := range []*int{&port, &timeout} {
		if i+1 < len(os.Args) {
			n, err := strconv.Atoi(os.Args[i+1])
			if err != nil || n < 1 {
				log.Fatalf("%s is not a number of 1 or more\nusage: rest [PORT [SECONDS]]", os.Args[i+1])
			}
			*setting = n
		}
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	listener, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("rest: listening on port %d\n", port)
	go func() { log.Fatal(newServer(time.Duration(timeout) * time.Second).Serve(listener)) }()
	<-ended
	if os.Getpid() == 1 {
		// A machine goes off; a container may not do that, and ends with us.
		_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	}
}

func newServer(timeout time.Duration) *http.Server {
	return &http.Server{
		Handler:        http.HandlerFunc(serve),
		ReadTimeout:    timeout,
		WriteTimeout:   timeout,
		IdleTimeout:    timeout,
		MaxHeaderBytes: maxHead,
		// No request is answered but by serve.
		DisableGeneralOptionsHandler: true,
		// What clients do wrong is theirs to know.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}
