// Service is an application that behaves as a test wants: see mode.
package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// mode is set when the program is linked:
//
//	fine     answers
//	silent   never listens
//	ends     says something and ends at once
//	refuses  answers with status 503
//	dies     answers 20 times and then ends
//	modest   answers, unless its environment holds the secret of a test
//	user     answers where it is the process of user 12 and group 34, in /srv, with
//	         two variables, and ends elsewhere
var mode = "fine"

func main() {
	port := "8080"
	if len(os.Args) > 1 {
		port = os.Args[1]
	}
	switch mode {
	case "silent":
		time.Sleep(time.Hour)
	case "ends":
		fmt.Println("cannot find my configuration")
		os.Exit(3)
	case "modest":
		port = "8080" // whatever else it was told
		for _, e := range os.Environ() {
			if strings.HasSuffix(e, "=the test's secret") {
				fmt.Println("it was given", e)
				os.Exit(5)
			}
		}
	case "user":
		dir, _ := os.Getwd()
		groups, _ := os.Getgroups()
		if os.Getuid() != 12 || os.Getgid() != 34 || len(groups) > 1 || dir != "/srv" || os.Getenv("QUOTED") != `a "b" c` {
			fmt.Println(os.Getuid(), os.Getgid(), groups, dir, os.Environ())
			os.Exit(5)
		}
	}
	var answered atomic.Int64
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		n := answered.Add(1)
		if mode == "refuses" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if mode == "dies" && n > 20 {
			fmt.Println("out of answers")
			os.Exit(4)
		}
		fmt.Fprintln(w, "here")
	})
	if err := http.ListenAndServe(":"+port, nil); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
